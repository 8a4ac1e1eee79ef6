"""Load a wedge checkpoint into the PyTorch model of the same names and evaluate it there.

With --tokens: prints loss (mean over tokens), perplexity and tokens of a split, as `wedge eval` does.
With --inputs: FILE holds int32 `inputs` [B,L]; prints, or writes with --logits, the logits of the model. Where
FILE also holds `logits`, they are compared, and the exit status is 1 if they differ by more than --tolerance
of the largest one.
"""

import argparse
import json
import math
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from founding_torch import read_blocks
from reference_models import ModelConfig, load_weights, make_model


def load_checkpoint(path, double):
    """The model of a checkpoint, without dropout; its metadata says which one it is."""
    with safe_open(path, "pt") as file:
        config = ModelConfig.from_metadata(file.metadata())
    model = make_model(config)
    load_weights(model, load_file(path))
    return (model.double() if double else model).eval()


def split_loss(model, path, split, batch):
    """Mean loss over the tokens of a split's whole blocks, and how many tokens that is."""
    blocks = read_blocks(path, split, model.config.max_context_len)
    total = sum(model.loss(b[:, :-1], b[:, 1:]).double().item() * len(b) for b in blocks.split(batch))
    return total / len(blocks), len(blocks) * model.config.max_context_len


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a .safetensors file with `model` in its metadata")
    parser.add_argument("--tokens", help="token file, from make_tokens.py")
    parser.add_argument("--split", default="validation", choices=["train", "validation"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--inputs", metavar="FILE", help="safetensors with int32 inputs [B,L] and, if wanted, logits")
    parser.add_argument("--logits", metavar="FILE", help="write inputs and logits to this safetensors file")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--float64", action="store_true", help="compute in double precision")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    model = load_checkpoint(args.checkpoint, args.float64)
    report = {"model": model.config.tensor_lifting_strategy, "num_params": model.num_params()}
    ok = True
    if args.tokens:
        loss, tokens = split_loss(model, args.tokens, args.split, args.batch)
        report.update(loss=loss, perplexity=math.exp(loss), tokens=tokens)
    if args.inputs:
        given = load_file(args.inputs)
        logits = model(given["inputs"].long())
        if args.logits:
            save_file({"inputs": given["inputs"], "logits": logits.contiguous()}, args.logits)
        elif "logits" not in given:
            report["logits"] = logits.tolist()
        if "logits" in given:
            difference = (logits.double() - given["logits"].double()).abs().max() / logits.abs().max()
            report["max_relative_difference"] = difference.item()
            ok = difference.item() <= args.tolerance
    print(json.dumps(report))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
