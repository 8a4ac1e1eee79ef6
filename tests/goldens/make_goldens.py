"""Make the model goldens: what PyTorch computes for five tiny language models.

Each file holds a model's parameters and batches (float32, int32) and what follows from them, computed in
float64: logits, loss, every parameter's gradient, and the losses and last parameters of ten AdamW steps.
README.md lists the tensors. Run it from any folder; it writes beside itself unless --out is given.
"""

import argparse
import json
import math
import pathlib
import sys

import torch
from safetensors.torch import save

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "bench" / "peers"))
from reference_models import ModelConfig, make_model  # noqa: E402

STEPS, BATCH = 10, 3
LEARNING_RATE, WEIGHT_DECAY, GRAD_CLIP = 1e-3, 0.01, 1.0
TINY = dict(num_layers=2, d_model=16, num_heads=2, expansion_ratio=4, d_low=4, vocab_size=61,
            max_context_len=12, dropout_rate=0.0)
MODELS = {
    "attention_post": dict(tensor_lifting_strategy="attention", lags=[1, 2, 5, 16]),
    "attention_pre": dict(tensor_lifting_strategy="attention", lags=[1, 2, 5, 16], pre_norm=True),
    "grassmann_post": dict(tensor_lifting_strategy="grassmann", lags=[1, 2, 5, 16]),
    "grassmann_pre": dict(tensor_lifting_strategy="grassmann", lags=[2, 5, 2, 16], pre_norm=True),
    "grassmann_layerwise": dict(tensor_lifting_strategy="grassmann", lags=[3, 1], layerwise_lags=True,
                                weight_tying=False),
}


def randomise(model, generator):
    """Float32 weights with which no bias is zero and no LayerNorm the identity."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float32)
        if "norm.weight" in name:
            value = 1 + 0.3 * noise
        elif name.endswith("bias"):
            value = 0.2 * noise
        elif "embedding" in name:
            value = 0.5 * noise
        elif name == "lm_head.weight":
            value = 0.5 * noise / math.sqrt(p.shape[1])  # gradient norms on both sides of GRAD_CLIP
        else:
            value = noise / math.sqrt(p.shape[1])
        p.data.copy_(value)


def train(model, tokens, targets):
    """Losses and gradient norms (before clipping) of STEPS AdamW steps under cosine annealing."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8,
                                  weight_decay=WEIGHT_DECAY)
    losses, norms = [], []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * LEARNING_RATE * (1 + math.cos(math.pi * step / STEPS))
        optimizer.zero_grad()
        loss = model.loss(tokens[step], targets[step])
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP))
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), torch.stack(norms).detach()


def golden(overrides, seed):
    """The tensors and the metadata of one file."""
    generator = torch.Generator().manual_seed(seed)
    config = ModelConfig(**{**TINY, **overrides})
    model = make_model(config).double()
    randomise(model, generator)
    shape = (STEPS, BATCH, config.max_context_len)
    tokens = torch.randint(config.vocab_size, shape, generator=generator)
    targets = torch.randint(config.vocab_size, shape, generator=generator)

    out = {f"param.{name}": p.detach().float() for name, p in model.named_parameters()}
    logits = model(tokens[0])
    loss = model.loss(tokens[0], targets[0])
    loss.backward()
    out.update({f"grad.{name}": p.grad.clone() for name, p in model.named_parameters()})
    out["inputs"], out["targets"] = tokens[0].int(), targets[0].int()
    out["logits"], out["loss"] = logits.detach(), loss.detach().reshape(1)
    out["step_inputs"], out["step_targets"] = tokens.int(), targets.int()
    out["step_losses"], out["step_grad_norms"] = train(model, tokens, targets)
    out.update({f"final.{name}": p.detach().float() for name, p in model.named_parameters()})

    optimizer = dict(steps=STEPS, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, grad_clip=GRAD_CLIP,
                     betas=[0.9, 0.999], eps=1e-8)
    metadata = {"model": config.model_json(), "optimizer": json.dumps(optimizer),
                "vocab_size": str(config.vocab_size), "max_context_len": str(config.max_context_len),
                "torch_version": torch.__version__}
    return {name: t.contiguous().clone() for name, t in out.items()}, metadata


def write(path, tensors, metadata):
    """Writes a safetensors file with its metadata in order, so that remaking it gives the same bytes."""
    data = save(tensors, metadata)
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    text = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(data[:8] + text.ljust(end - 8) + data[end:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="folder to write to (default: this one)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed, (name, overrides) in enumerate(MODELS.items(), start=1):
        tensors, metadata = golden(overrides, seed)
        path = args.out / f"{name}.safetensors"
        write(path, tensors, metadata)
        norms = tensors["step_grad_norms"]
        print(f"{path.name}: {path.stat().st_size} bytes, loss {tensors['loss'].item():.6f}, ten losses "
              f"{tensors['step_losses'][0]:.4f} to {tensors['step_losses'][-1]:.4f}, "
              f"gradient norms {norms.min():.3f} to {norms.max():.3f}")


if __name__ == "__main__":
    main()
