"""Time PyTorch's training step on the founding configuration; the other side of bench's train step.

Random tokens; forward, backward, gradient clipping and AdamW, as a run does them. Prints one JSON line.
`seconds_per_step` is the mean over the timed steps, `best_seconds` the fastest of them; `cpu_seconds_per_step`
is the processor time of all threads, and well below threads x seconds on a machine that is busy with other
work. What the allocator does is set by the environment (see train_step_best.sh) and reported in `malloc`.

With --device cuda the steps of a round follow each other without the host waiting for the loss, between two CUDA
events; `seconds_per_step` is the median of five rounds. Memory there is the most that torch.cuda had in live tensors
and reserved since the first step, which compiles and tries out, and what is in use on the whole device in the end.
--compile takes torch.compile's mode, on either device; --amp is bfloat16 autocast; --graph captures the whole step,
optimizer and all, in one CUDA graph, as wedge does; --form is one of timing.py's.

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

import ratios
import timing
from reference_models import ModelConfig, make_model
from timing import at_least


def make_step(model, optimizer, tokens, args):
    """One training step on the batch that follows; the mean loss comes back as a tensor."""
    loss_of = torch.compile(model.loss, mode=args.compile) if args.compile else model.loss
    device = tokens.device.type

    def step_on(block):
        if args.compile and device == "cuda" and not args.graph:
            torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad()
        # What a graph captures must not be outlived by a cache of cast weights.
        with torch.autocast(device, torch.bfloat16, cache_enabled=not args.graph) if args.amp else contextlib.nullcontext():
            loss = loss_of(block[:, :-1], block[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    return captured(step_on, optimizer, tokens) if args.graph else lambda index: step_on(tokens[index])


def captured(step_on, optimizer, tokens):
    """The step as one CUDA graph over a block that stays where it is."""
    block = tokens[0].clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step_on(block)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    optimizer.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step_on(block)

    def step(index):
        block.copy_(tokens[index])
        graph.replay()
        return loss

    return step


def used_on_device():
    """MiB of the whole GPU, the driver's own included."""
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


def time_on_gpu(step, args):
    """The line's figures for a GPU."""
    step(0)
    if not args.graph:  # captured() has done that before the graph took its memory
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for index in range(1, args.warmup):
        step(index)
    torch.cuda.synchronize()

    def steps():
        for index in range(args.warmup, args.warmup + args.steps):
            step(index)

    seconds = statistics.median(timing.seconds_of(steps, "cuda") for _ in range(5)) / args.steps
    return {"tokens_per_second": args.batch * args.length / seconds, "seconds_per_step": seconds,
            "peak_tensor_mib": torch.cuda.max_memory_allocated() / 2**20,
            "peak_reserved_mib": torch.cuda.max_memory_reserved() / 2**20, "device_memory_mib": used_on_device()}


def time_on_cpu(step, args):
    """The line's figures for the CPU."""
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
    return {
        "tokens_per_second": round(args.batch * args.length / mean, 1),
        "seconds_per_step": round(mean, 4),
        "best_seconds": round(min(seconds), 4),
        "cpu_seconds_per_step": round(cpu_seconds, 4),
        "page_faults_per_step": round(faults),
        "threads": args.threads,
        "denormals": "kept" if args.keep_denormals else "flushed",
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "malloc": allocator_settings(),
    }


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


SIZES = {"threads": 2, "batch": 16, "length": 128, "layers": 6, "vocab": 30522}


def add_setup(parser):
    """The arguments that say which step is made, and where."""
    for name, default in SIZES.items():
        parser.add_argument(f"--{name}", type=at_least(1), default=default)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", metavar="MODE", help="torch.compile, for example max-autotune")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--graph", action="store_true", help="the step in one CUDA graph; with --compile only in a mode "
                        "that makes none itself (default, max-autotune-no-cudagraphs)")
    parser.add_argument("--form", choices=timing.FORMS, default="plain", help="of the mixer (default: plain)")
    parser.add_argument("--keep-denormals", action="store_true",
                        help="on the CPU, not to flush them to zero, as is PyTorch's default")
    parser.add_argument("--commit", default="unknown", help="wedge's commit, for the record")


def variant(args):
    """What the step is called: eager or the mode, and how it is captured and formed."""
    return ratios.variant_of(args.compile or "eager", args.form, args.graph)


def check_setup(parser, args):
    """Refuses what add_setup()'s arguments can say and PyTorch cannot do."""
    timing.check_device(parser, args.device)
    known = {"attention": ("plain", "cudnn"), "grassmann": ("plain", *timing.GRASSMANN_FORMS), "both": ("plain",)}[args.model]
    if args.form not in known:
        parser.error(f"--form: expected {', '.join(known)} for {args.model}, got {args.form}")
    modes = list(dict.fromkeys(["default", *torch._inductor.list_mode_options()]))
    if args.compile and args.compile not in modes:
        parser.error(f"--compile: expected {', '.join(modes)}, got {args.compile}")
    if args.graph and args.device == "cpu":
        parser.error("--graph: expected --device cuda, got cpu")
    if args.graph and args.compile in ("reduce-overhead", "max-autotune"):
        parser.error(f"--graph: expected a mode that makes no graphs itself, got {args.compile}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["attention", "grassmann"], required=True)
    add_setup(parser)
    parser.add_argument("--steps", type=at_least(1), default=10, help="timed steps (default 10)")
    parser.add_argument("--warmup", type=at_least(2), default=3, help="steps before them (default 3)")
    parser.add_argument("--optimizer", choices=["fused", "foreach", "loop"], default="fused",
                        help="which of PyTorch's AdamW implementations")
    parser.add_argument("--paced", action="store_true", help="steps at another program's command")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    check_setup(parser, args)
    if not args.keep_denormals:
        torch.set_flush_denormal(True)  # as wedge's products do; before there are threads
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("highest")
    config = ModelConfig(args.model, num_layers=args.layers, vocab_size=args.vocab, max_context_len=args.length)
    model = make_model(config).to(args.device)
    for block in model.transformer_blocks:
        if args.form in timing.GRASSMANN_FORMS:
            block.attention = timing.forms_of(block.attention)[args.form]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=args.optimizer == "fused",
                                  foreach=args.optimizer == "foreach", capturable=args.graph)
    tokens = torch.randint(config.vocab_size, (args.warmup + args.steps, args.batch, args.length + 1),
                           device=args.device)
    setup = {"side": "pytorch", "model": args.model, "variant": variant(args), "amp": args.amp,
             "batch": args.batch, "length": args.length, "optimizer": args.optimizer, "steps": args.steps,
             **timing.stamp(args)}
    with timing.backends(args.form):
        step = make_step(model, optimizer, tokens, args)
        if args.paced:
            pace(step, args)
        elif args.device == "cuda":
            print(json.dumps(setup | time_on_gpu(step, args)))
        else:
            print(json.dumps(setup | time_on_cpu(step, args)))


if __name__ == "__main__":
    main()
