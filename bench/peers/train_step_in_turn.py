"""Training steps of wedge and of PyTorch in turn, in one run: a factor that a noisy machine leaves alone.

Starts train_step_bench and train_step_torch.py, lets each make a step while the other one waits, and prints a JSON
line for each model: both medians, and the median and quartiles of the rounds' factors, PyTorch's seconds over
wedge's. On the CPU PyTorch runs with denormal numbers flushed to zero and with glibc told to keep its memory
and to use huge pages, the fastest of train_step_best.sh's settings or near it, unless the environment says otherwise.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import timing
from timing import at_least
from train_step_torch import SIZES, add_setup, check_setup, variant

HERE = pathlib.Path(__file__).resolve().parent
KEEP = {"MALLOC_TOP_PAD_": "268435456", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


class Stepper:
    """A program that makes a step for each line, and answers with its seconds."""

    def __init__(self, command, environment=None):
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=os.environ | (environment or {}))

    def step(self):
        try:
            print(file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        return float(answer) if answer else self.fail()

    def end(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            self.fail()

    def fail(self):
        sys.exit(f"train_step_in_turn: {self.command[0]} ended with status {self.process.wait()}")


def measure(model, args):
    both = {name: getattr(args, name) for name in SIZES}
    wedge = [args.bench, f"model={model}", f"device={args.device}", f"amp={str(args.amp).lower()}", "paced=true"]
    peer = [sys.executable, str(HERE / "train_step_torch.py"), "--model", model, "--device", args.device, "--paced"]
    for name, value in both.items():
        wedge.append(f"{name}={value}")
        peer += [f"--{name}", str(value)]
    if args.amp:
        peer.append("--amp")
    if args.keep_denormals:
        peer.append("--keep-denormals")
    if args.compile:
        peer += ["--compile", args.compile]
    if args.graph:
        peer.append("--graph")
    peer += ["--form", args.form]
    chosen = any(name in os.environ for name in (*KEEP, "LD_PRELOAD"))
    steppers = []
    try:
        for command, environment in ((wedge, None), (peer, None if chosen or args.device == "cuda" else KEEP)):
            steppers.append(Stepper(command, environment))
        with timing.time_limit(args.limit):
            for _ in range(3):
                for stepper in steppers:
                    stepper.step()
        rounds = [[stepper.step() for stepper in steppers] for _ in range(args.rounds)]
        for stepper in steppers:
            stepper.end()
    except TimeoutError as error:
        sys.exit(f"train_step_in_turn: {model}: the first steps: {error}")
    finally:
        for stepper in steppers:
            stepper.process.kill()
            stepper.process.wait()
    ours, theirs = ([seconds[side] for seconds in rounds] for side in (0, 1))
    low, middle, high = statistics.quantiles([b / a for a, b in rounds], n=4)
    tokens = args.batch * args.length
    on_cpu = {"pytorch_denormals": "kept" if args.keep_denormals else "flushed"} if args.device == "cpu" else {}
    return {"model": model, "amp": args.amp, "variant": variant(args), **on_cpu, **both,
            "rounds": args.rounds, "wedge_tokens_per_second": round(tokens / statistics.median(ours), 1),
            "pytorch_tokens_per_second": round(tokens / statistics.median(theirs), 1), "factor": round(middle, 3),
            "factor_quartiles": [round(low, 3), round(high, 3)], **timing.stamp(args)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["attention", "grassmann", "both"], default="both")
    parser.add_argument("--rounds", type=at_least(2), default=20, help="default: %(default)s")
    add_setup(parser)
    parser.add_argument("--bench", default="build/bin/train_step_bench", help="default: %(default)s")
    parser.add_argument("--limit", type=at_least(0), default=0, metavar="SECONDS",
                        help="give up if the first steps, compiling included, take longer (default: never)")
    args = parser.parse_args()
    check_setup(parser, args)
    args.bench = os.path.abspath(args.bench)
    if not (os.path.isfile(args.bench) and os.access(args.bench, os.X_OK)):
        parser.error(f"--bench: expected a program, got {args.bench}")
    for model in ("attention", "grassmann") if args.model == "both" else (args.model,):
        print(json.dumps(measure(model, args)), flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
