"""The founding experiment in PyTorch: the same recipe as `wedge train`, from the same token file.

Blocks of L + 1 tokens, shuffled anew every epoch, the last smaller batch kept; AdamW under cosine annealing,
gradients clipped by global norm; an epoch's losses are means over its batches. Prints one JSON line.

Two programs started from equal weights can be compared step by step:
    founding_torch.py --model attention --tokens T --save-init INIT.safetensors --steps 0
    founding_torch.py --model attention --tokens T --init INIT.safetensors --dropout 0 --no-shuffle \\
                      --steps 24 --losses LOSSES.json
"""

import argparse
import contextlib
import json
import math
import time

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reference_models import ModelConfig, load_weights, make_model


def read_blocks(path, split, length):
    """Blocks [N, length + 1] of a split, the tail dropped."""
    with safe_open(path, "pt") as file:
        tokens = file.get_tensor(split).long()
    count = tokens.numel() // (length + 1)
    return tokens[: count * (length + 1)].view(count, length + 1)


def vocab_size_of(path):
    with safe_open(path, "pt") as file:
        return int(file.metadata()["vocab_size"])


def loss_of(model, block, amp):
    with torch.autocast(block.device.type, torch.bfloat16) if amp else contextlib.nullcontext():
        return model.loss(block[:, :-1], block[:, 1:])


@torch.no_grad()
def validation_loss(model, blocks, batch, amp):
    """Mean over batches of their mean losses."""
    model.eval()
    losses = [loss_of(model, block, amp).item() for block in blocks.split(batch)]
    model.train()
    return sum(losses) / len(losses)


def train(model, blocks, validation, args, generator):
    """Losses of every step, and the mean training and validation loss of every whole epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, betas=(0.9, 0.999), eps=1e-8,
                                  weight_decay=args.weight_decay, fused=True)
    batches = math.ceil(len(blocks) / args.batch)
    total = args.epochs * batches
    limit = total if args.steps is None else min(args.steps, total)
    losses, train_losses, val_losses = [], [], []
    for epoch in range(args.epochs):
        order = torch.randperm(len(blocks), generator=generator) if args.shuffle else torch.arange(len(blocks))
        for rows in order.split(args.batch):
            if len(losses) == limit:
                return as_numbers(losses), train_losses, val_losses
            for group in optimizer.param_groups:
                group["lr"] = 0.5 * args.learning_rate * (1 + math.cos(math.pi * len(losses) / total))
            block = blocks[rows]
            optimizer.zero_grad()
            loss = loss_of(model, block, args.amp)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.grad_clip)
            optimizer.step()
            losses.append(loss.detach())
        train_losses.append(sum(as_numbers(losses[-batches:])) / batches)
        val_losses.append(validation_loss(model, validation, args.batch, args.amp))
    return as_numbers(losses), train_losses, val_losses


def as_numbers(losses):
    return torch.stack(losses).tolist() if losses else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["attention", "grassmann"], required=True)
    parser.add_argument("--tokens", required=True, help="safetensors with int32 train and validation, from make_tokens.py")
    parser.add_argument("--seed", type=int, default=42, help="of weights, dropout and shuffling (default 42)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--grad-clip", type=float, default=1.0)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--pre-norm", action="store_true")
    parser.add_argument("--no-shuffle", dest="shuffle", action="store_false")
    parser.add_argument("--steps", type=int, help="stop after this many steps; the schedule stays the full run's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--float64", action="store_true", help="compute in double precision")
    parser.add_argument("--init", help="start from the weights of this safetensors file")
    parser.add_argument("--save-init", help="write the weights before the first step to this file")
    parser.add_argument("--save", help="write the weights after the last step to this file")
    parser.add_argument("--losses", help="write the loss of every step to this JSON file")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = ModelConfig(args.model, vocab_size=vocab_size_of(args.tokens), pre_norm=args.pre_norm,
                         dropout_rate=args.dropout)
    model = make_model(config)
    if args.init:
        load_weights(model, load_file(args.init))
    metadata = {"model": config.model_json(), "vocab_size": str(config.vocab_size),
                "max_context_len": str(config.max_context_len)}
    if args.save_init:
        save_file(model.state_dict(), args.save_init, metadata)

    if args.float64:
        model.double()
    model.to(args.device)
    blocks = read_blocks(args.tokens, "train", config.max_context_len).to(args.device)
    validation = read_blocks(args.tokens, "validation", config.max_context_len).to(args.device)
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(args.seed)
    losses, train_losses, val_losses = train(model, blocks, validation, args, generator)
    seconds = time.perf_counter() - start

    if args.save:
        save_file(model.state_dict(), args.save, metadata)
    schedule_steps = args.epochs * math.ceil(len(blocks) / args.batch)
    if args.losses:
        record = dict(model=args.model, seed=args.seed, batch=args.batch, dropout=args.dropout, shuffle=args.shuffle,
                      schedule_steps=schedule_steps, torch=torch.__version__, losses=losses)
        with open(args.losses, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
    result = dict(model=args.model, seed=args.seed, num_params=model.num_params(), steps=len(losses),
                  schedule_steps=schedule_steps, train_losses=train_losses, val_losses=val_losses,
                  best_val_loss=min(val_losses, default=None), last_step_loss=losses[-1] if losses else None,
                  seconds=round(seconds, 1), threads=args.threads, device=args.device, amp=args.amp, torch=torch.__version__)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
