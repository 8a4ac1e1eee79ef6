"""Time PyTorch's training step on the founding configuration; the other side of bench's train step.

Random tokens; forward, backward, gradient clipping and AdamW, as a run does them. Prints one JSON line.
`seconds_per_step` is the mean over the timed steps, `best_seconds` the fastest of them; `cpu_seconds_per_step`
is the processor time of all threads, and well below threads x seconds on a machine that is busy with other
work. What the allocator does is set by the environment (see train_step_best.sh) and reported in `malloc`.

With --device cuda the steps of a round follow each other without the host waiting for the loss, between two CUDA
events; `seconds_per_step` is the median of five rounds, and memory the most that torch.cuda had in live tensors
and reserved. --compile takes torch.compile's mode, on either device; --amp is bfloat16 autocast.

With --paced, one step for each line read from standard input, and its seconds for each (train_step_in_turn.py).
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import sys
import time

import torch

import timing
from reference_models import ModelConfig, make_model


def make_step(model, optimizer, tokens, compile_mode, amp):
    """One training step on the batch that follows; the mean loss comes back as a tensor."""
    loss_of = torch.compile(model.loss, mode=compile_mode) if compile_mode else model.loss
    device = tokens.device.type

    def step(index):
        block = tokens[index]
        if compile_mode and device == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16) if amp else contextlib.nullcontext():
            loss = loss_of(block[:, :-1], block[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    return step


def time_on_gpu(step, args):
    """The line's figures for a GPU."""
    for index in range(args.warmup):
        step(index)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()

    def steps():
        for index in range(args.warmup, args.warmup + args.steps):
            step(index)

    seconds = statistics.median(timing.seconds_of(steps, "cuda") for _ in range(5)) / args.steps
    return {"tokens_per_second": args.batch * args.length / seconds, "seconds_per_step": seconds,
            "peak_tensor_mib": torch.cuda.max_memory_allocated() / 2**20,
            "peak_reserved_mib": torch.cuda.max_memory_reserved() / 2**20}


def pace(step, args):
    """Step after step as lines come in."""
    for index in range(args.warmup):
        step(index)
    for _ in sys.stdin:
        print(f"{timing.seconds_of(lambda: step(0), args.device, twice=True):.9f}", flush=True)


def allocator_settings():
    """The environment variables that decide which allocator runs, and how."""
    return {key: value for key, value in os.environ.items()
            if key.startswith(("MALLOC_", "TCMALLOC_")) or key in ("LD_PRELOAD", "GLIBC_TUNABLES")}


def at_least(least):
    """The type of a whole number that is not smaller."""
    def number(text):
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, got {text}")
        return int(text)
    return number


SIZES = {"threads": 2, "batch": 16, "length": 128, "layers": 6, "vocab": 30522}


def add_setup(parser):
    """The arguments that say which step is made, and where."""
    for name, default in SIZES.items():
        parser.add_argument(f"--{name}", type=at_least(1), default=default)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", metavar="MODE", help="torch.compile, for example max-autotune")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--keep-denormals", action="store_true",
                        help="on the CPU, not to flush them to zero, as is PyTorch's default")
    parser.add_argument("--commit", default="unknown", help="wedge's commit, for the record")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["attention", "grassmann"], required=True)
    add_setup(parser)
    parser.add_argument("--steps", type=at_least(1), default=10, help="timed steps (default 10)")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them (default 3)")
    parser.add_argument("--optimizer", choices=["fused", "foreach", "loop"], default="fused",
                        help="which of PyTorch's AdamW implementations")
    parser.add_argument("--paced", action="store_true", help="steps at another program's command")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    if not args.keep_denormals:
        torch.set_flush_denormal(True)  # as wedge's products do; before there are threads
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("highest")
    config = ModelConfig(args.model, num_layers=args.layers, vocab_size=args.vocab, max_context_len=args.length)
    model = make_model(config).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=args.optimizer == "fused",
                                  foreach=args.optimizer == "foreach")
    tokens = torch.randint(config.vocab_size, (args.warmup + args.steps, args.batch, args.length + 1),
                           device=args.device)
    step = make_step(model, optimizer, tokens, args.compile, args.amp)
    if args.paced:
        pace(step, args)
        return
    setup = {"side": "pytorch", "model": args.model, "variant": args.compile or "eager", "amp": args.amp,
             "batch": args.batch, "length": args.length, "optimizer": args.optimizer, "steps": args.steps,
             **timing.stamp(args)}
    if args.device == "cuda":
        print(json.dumps(setup | time_on_gpu(step, args)))
        return
    for index in range(args.warmup):
        step(index)
    faults_start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    seconds, cpu_start = [], time.process_time()
    for index in range(args.warmup, args.warmup + args.steps):
        start = time.perf_counter()
        step(index).item()
        seconds.append(time.perf_counter() - start)

    cpu_seconds = (time.process_time() - cpu_start) / args.steps
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults_start) / args.steps
    mean = sum(seconds) / len(seconds)
    print(json.dumps(setup | {
        "tokens_per_second": round(args.batch * args.length / mean, 1),
        "seconds_per_step": round(mean, 4),
        "best_seconds": round(min(seconds), 4),
        "cpu_seconds_per_step": round(cpu_seconds, 4),
        "page_faults_per_step": round(faults),
        "threads": args.threads,
        "denormals": "kept" if args.keep_denormals else "flushed",
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "malloc": allocator_settings(),
    }))


if __name__ == "__main__":
    main()
