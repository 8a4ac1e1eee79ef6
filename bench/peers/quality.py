"""The same training in wedge and in PyTorch over several seeds: is what they reach the same?

Trains each model with `wedge train` and with founding_torch.py, from the same tokens, one run a seed, and prints for
both sides mean, standard deviation and range of the best validation losses, and the difference of the means in its
own standard errors: more than two or three of them would say that one side learns something else. Weights, dropout
and the order of blocks are each side's own, so single runs differ.

Every run is a line of --out, and what is there already is not run again: an interrupted comparison goes on.

    python bench/peers/make_tokens.py TRAIN VALIDATION VOCAB tokens.safetensors --max-train 0 --max-validation 0
    python bench/peers/quality.py --tokens tokens.safetensors --out quality.jsonl --seeds 1,2,3
"""

import argparse
import concurrent.futures
import datetime
import itertools
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

import numpy
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from timing import at_least

HERE = pathlib.Path(__file__).resolve().parent
SETUP = ("epochs", "batch", "classes", "validation", "device", "amp")


def tokens_of(args, folder):
    """The file that both sides train on: the given one, or with fewer classes and validation tokens."""
    if not args.classes and not args.validation:
        return args.tokens
    tokens = load_file(args.tokens)
    train, validation = tokens["train"], tokens["validation"][: args.validation]
    with safe_open(args.tokens, "np") as file:
        classes = int(file.metadata()["vocab_size"])
    if args.classes:
        ids, counts = numpy.unique(train, return_counts=True)
        kept = ids[numpy.argsort(-counts, kind="stable")[: args.classes - 1]]
        number = numpy.full(classes, args.classes - 1, numpy.int32)
        number[kept] = numpy.arange(kept.size, dtype=numpy.int32)
        train, validation, classes = number[train], number[validation], args.classes
    path = str(folder / "tokens.safetensors")
    save_file({"train": train, "validation": validation}, path, {"vocab_size": str(classes)})
    return path


def run(command):
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}: {last}")
    return done.stdout


def train(side, model, seed, tokens, folder, args):
    """The line of one run."""
    if side == "wedge":
        to = folder / f"{model}_{seed}"
        run([args.wedge, "train", f"model={model}", "data=tokens", f"data.path={tokens}", f"seed={seed}",
             f"train.num_epochs={args.epochs}", f"train.batch_size={args.batch}", f"train.device={args.device}",
             f"train.amp={str(args.amp).lower()}", f"train.amp_on_cpu={str(args.amp and args.device == 'cpu').lower()}",
             "train.threads=1", f"experiment.run_dir={to}"])
        result = json.loads((to / "results.json").read_text())
    else:
        command = [sys.executable, str(HERE / "founding_torch.py"), "--model", model, "--tokens", tokens, "--seed",
                   str(seed), "--epochs", str(args.epochs), "--batch", str(args.batch), "--threads", "1", "--device",
                   args.device]
        result = json.loads(run(command + ["--amp"] * args.amp))
    losses = {name: result[name] for name in ("best_val_loss", "train_losses", "val_losses")}
    stamp = {"commit": args.commit, "torch": result.get("torch"), "date": datetime.date.today().isoformat()}
    return {"side": side, "model": model, "seed": seed, **losses, **{name: getattr(args, name) for name in SETUP}, **stamp}


def summary(lines, model):
    reached = {side: [line["best_val_loss"] for line in lines if (line["side"], line["model"]) == (side, model)]
               for side in ("wedge", "pytorch")}
    if min(map(len, reached.values())) < 2:
        print(f"{model:10} {', '.join(f'{len(losses)} runs of {side}' for side, losses in reached.items())}: too few to compare")
        return
    means = {side: statistics.mean(losses) for side, losses in reached.items()}
    for side, losses in reached.items():
        print(f"{model:10} {side:8} {len(losses)} runs  mean {means[side]:.4f}  deviation {statistics.stdev(losses):.4f}  "
              f"{min(losses):.4f} to {max(losses):.4f}")
    error = sum(statistics.variance(losses) / len(losses) for losses in reached.values()) ** 0.5
    difference = means["wedge"] - means["pytorch"]
    print(f"{model:10} wedge - PyTorch {difference:+.4f}, {difference / error:+.1f} standard errors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", required=True, help="from make_tokens.py")
    parser.add_argument("--out", required=True, help="JSON lines, one a run; read first")
    parser.add_argument("--seeds", default="1,2,3", help="two at least (default %(default)s)")
    parser.add_argument("--models", default="attention,grassmann", help="default: %(default)s")
    parser.add_argument("--epochs", type=at_least(1), default=3, help="default: %(default)s")
    parser.add_argument("--batch", type=at_least(1), default=32, help="default: %(default)s")
    parser.add_argument("--classes", type=at_least(2), help="keep that many classes: the most frequent ids, and one "
                        "for all others (default: all)")
    parser.add_argument("--validation", type=at_least(1), help="keep that many validation tokens (default: all)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--amp", action="store_true", help="bfloat16 products on both sides; on the CPU with AMX")
    parser.add_argument("--jobs", type=at_least(1), default=1, help="runs at a time, of one thread each (default %(default)s)")
    parser.add_argument("--commit", default="unknown", help="wedge's commit, for the record")
    parser.add_argument("--wedge", default="build/bin/wedge", help="default: %(default)s")
    args = parser.parse_args()
    if not re.fullmatch(r"\d+(,\d+)+", args.seeds):
        parser.error(f"--seeds: expected two whole numbers at least, with commas between them, got {args.seeds}")
    seeds, models = sorted({int(seed) for seed in args.seeds.split(",")}), args.models.split(",")
    if len(seeds) < 2:
        parser.error(f"--seeds: expected two different ones at least, got {args.seeds}")
    for model in models:
        if model not in ("attention", "grassmann"):
            parser.error(f"--models: expected attention and grassmann, got {model}")
    if not os.path.isfile(args.tokens):
        parser.error(f"--tokens: expected a file of make_tokens.py, got {args.tokens}")
    if not os.access(args.wedge, os.X_OK):
        parser.error(f"--wedge: expected a program, got {args.wedge}")

    try:
        with open(args.out, "a+", encoding="utf-8") as file:  # that it can be written is known before hours are spent
            file.seek(0)
            lines = [json.loads(line) for line in file]
    except (OSError, ValueError) as error:
        parser.error(f"--out: expected a file of JSON lines that can be added to, got {args.out}: {error}")
    lines = [line for line in lines if line.get("side") in ("wedge", "pytorch")]
    setup = {name: getattr(args, name) for name in SETUP}
    for line in lines:
        if {name: line.get(name) for name in SETUP} != setup:
            parser.error(f"--out: expected runs of this setup in {args.out}, got {json.dumps({n: line.get(n) for n in SETUP})}")
    done = {(line["side"], line["model"], line["seed"]) for line in lines}
    with tempfile.TemporaryDirectory() as name, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        folder = pathlib.Path(name)
        tokens = tokens_of(args, folder)
        left = [each for each in itertools.product(("wedge", "pytorch"), models, seeds) if each not in done]
        left.sort(key=lambda each: each[2])
        runs = {pool.submit(train, *each, tokens, folder, args): each for each in left}
        failed = 0
        for future in concurrent.futures.as_completed(runs):
            try:
                lines.append(future.result())
            except (RuntimeError, OSError, ValueError, KeyError) as error:  # the others are worth having
                failed += 1
                print(f"quality: {' '.join(map(str, runs[future]))}: {error}", file=sys.stderr)
                continue
            with open(args.out, "a", encoding="utf-8") as file:
                print(json.dumps(lines[-1]), file=file)
    for model in models:
        summary([line for line in lines if line["seed"] in seeds], model)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
