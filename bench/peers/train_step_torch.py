"""Time PyTorch's training step on the founding configuration; the other side of bench's train step.

Random tokens; forward, backward, gradient clipping and AdamW, as a run does them. Prints one JSON line.
`seconds_per_step` is the mean over the timed steps, `best_seconds` the fastest of them; `cpu_seconds_per_step`
is the processor time of all threads, and well below threads x seconds on a machine that is busy with other
work. What the allocator does is set by the environment (see train_step_best.sh) and reported in `malloc`.
"""

import argparse
import json
import os
import resource
import time

import torch

from reference_models import ModelConfig, make_model


def make_step(model, optimizer, tokens):
    """One training step on the batch that follows; the mean loss comes back as a float."""

    def step(index):
        block = tokens[index]
        optimizer.zero_grad()
        loss = model.loss(block[:, :-1], block[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def allocator_settings():
    """The environment variables that decide which allocator runs, and how."""
    return {key: value for key, value in os.environ.items()
            if key.startswith(("MALLOC_", "TCMALLOC_")) or key in ("LD_PRELOAD", "GLIBC_TUNABLES")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["attention", "grassmann"], required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="timed steps (default 10)")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them (default 3)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--optimizer", choices=["fused", "foreach", "loop"], default="fused",
                        help="which of PyTorch's AdamW implementations")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = ModelConfig(args.model)
    model = make_model(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=args.optimizer == "fused",
                                  foreach=args.optimizer == "foreach")
    tokens = torch.randint(config.vocab_size, (args.warmup + args.steps, args.batch, config.max_context_len + 1))
    step = make_step(model, optimizer, tokens)
    for index in range(args.warmup):
        step(index)
    faults_start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    seconds, cpu_start = [], time.process_time()
    for index in range(args.warmup, args.warmup + args.steps):
        start = time.perf_counter()
        step(index)
        seconds.append(time.perf_counter() - start)

    cpu_seconds = (time.process_time() - cpu_start) / args.steps
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults_start) / args.steps
    mean = sum(seconds) / len(seconds)
    print(json.dumps({
        "model": args.model,
        "tokens_per_second": round(args.batch * config.max_context_len / mean, 1),
        "seconds_per_step": round(mean, 4),
        "best_seconds": round(min(seconds), 4),
        "cpu_seconds_per_step": round(cpu_seconds, 4),
        "page_faults_per_step": round(faults),
        "steps": args.steps,
        "batch": args.batch,
        "threads": args.threads,
        "optimizer": args.optimizer,
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "torch": torch.__version__,
        "malloc": allocator_settings(),
    }))


if __name__ == "__main__":
    main()
