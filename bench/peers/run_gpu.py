#!/usr/bin/env python3
"""wedge's and PyTorch's sides on a GPU, one after the other in one run, and the table of what wedge gains.

Needs a build with CUDA and Google Benchmark, and is run by a Python with PyTorch for CUDA. Writes DATE_gpu_DEVICE.jsonl,
its first line with device, commit and date, each figure as soon as it is there: what is stopped keeps what it had, and
what fails or takes too long is a line that says so. `ratios.py` prints the table again.

Parts, in this order: step (training steps), mixer, attention (and SDPA), rows (layer norms and elementwise functions),
length (mixers from L 128 to 65,536), ops (all other operations). In each wedge is measured, then PyTorch, then wedge
again: what changes between wedge's two rounds is the machine's own, and the slower one counts.
"""

import argparse
import concurrent.futures
import dataclasses
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import ratios

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = ROOT / "bench" / "peers"
# torch.compile's modes, and what timing.py calls them.
MODES = {"reduce-overhead": "compile_quick", "max-autotune": "compile", "max-autotune-no-cudagraphs": "compile_graph"}
FORMS = {"grassmann": {"eager": ("plain", "product"), "compile": ("shifted", "shifted_product")},
         "attention": {"eager": ("plain", "cudnn"), "compile": ("plain", "cudnn")}}
PRECISIONS = ("amp", "float32")
ROWS = "^(residual_)?layernorm/|^(exp|sigmoid|gelu|add)/"
TALL_ROWS = "^(residual_)?layernorm/lead=.512, 128|^(exp|sigmoid|gelu|add)/.*=.65536"


@dataclasses.dataclass
class Part:
    wedge: list    # commands
    pytorch: list


def step_part(args):
    sizes = {"batch": 2, "length": 32, "steps": 2} if args.quick else {"batch": 32, "length": 128, "steps": 20}
    amp = [precision == "amp" for precision in args.precisions]
    wedge = [[args.build / "bin/train_step_bench", f"model={model}", "device=cuda", f"amp={str(reduced).lower()}",
              *(f"{name}={value}" for name, value in sizes.items())] for reduced in amp for model in FORMS]
    pytorch = []
    for reduced in amp:
        for model, forms in FORMS.items():
            variants = [(form, graph) for graph in ([], ["--graph"]) for form in forms["eager"]]
            for mode in args.modes:
                own = [] if mode in ("reduce-overhead", "max-autotune") else ["--graph"]
                variants += [(form, [*own, "--compile", mode]) for form in forms["compile"]]
            for form, variant in variants:
                pytorch.append([sys.executable, PEERS / "train_step_torch.py", "--device", "cuda", "--model", model, "--form",
                                form, *variant, *["--amp"] * reduced, "--commit", args.commit,
                                *(word for name, value in sizes.items() for word in (f"--{name}", str(value)))])
    return Part(wedge, pytorch)


def bench_part(args, program, cases, variants, precisions=None, passes="forward,forward+backward", wedge_cases=None):
    """Cases that a regular expression finds, of one of the two benchmarks."""
    precisions = precisions or args.precisions
    places = "|".join({"amp": "cuda_bf16", "float32": "cuda"}[p] for p in precisions)
    rounds = ["--benchmark_min_time=0.01"] if args.quick else ["--benchmark_min_time=0.1", "--benchmark_repetitions=5"]
    with_bf16 = [*precisions, *["bf16_tensors"] * ("amp" in precisions)]
    common = ["--quick"] if args.quick else []
    wanted = "forward" if passes == "forward,forward+backward" else re.escape(passes)
    wedge = [args.build / f"bin/{program}_bench", "--device=cuda", *common, *rounds,
             f"--benchmark_filter={wedge_cases or f'({cases}).*/{wanted}.*/({places})/'}"]
    pytorch = [sys.executable, PEERS / f"{program}_torch.py", "--device", "cuda", *common, "--commit", args.commit,
               "--filter", cases, "--variants", ",".join(variants), "--precisions", ",".join(with_bf16), "--passes", passes]
    return Part([wedge], [pytorch])


def parts_of(args):
    compiled = [MODES[mode] for mode in args.modes]
    graphs = ["eager_graph", *compiled]
    ops = ["eager", "eager_graph", *(compiled if args.compile_ops else [])]
    plan = {"step": lambda: step_part(args)}
    if args.goals:
        plan |= {"mixer": lambda: bench_part(args, "mixer", "^mixer/grassmann/(32|512)x128", ["eager", *graphs],
                                             passes="forward+backward"),
                 "attention": lambda: bench_part(args, "ops", "^(causal_attention|sdpa_alone)/B=32 ", ["eager_graph"]),
                 "rows": lambda: bench_part(args, "ops", TALL_ROWS, ["eager_graph"], ["float32"])}
    else:
        plan |= {"mixer": lambda: bench_part(args, "mixer", "^mixer/", ["eager", *graphs]),
                 "attention": lambda: bench_part(args, "ops", "^(causal_attention|sdpa_alone)/", ops),
                 "rows": lambda: bench_part(args, "ops", ROWS, ops)}
    plan["length"] = lambda: bench_part(args, "mixer", "^length/", graphs, passes="forward+backward")
    others = f"^(causal_attention|sdpa_alone)/|{ROWS}"
    plan["ops"] = lambda: bench_part(args, "ops", f"^(?!{others.replace('^', '')})", ops, wedge_cases=f"-{others}")
    return {name: make() for name, make in plan.items() if name in args.parts}


class Run:
    """The results file, and the clock."""

    def __init__(self, file, args):
        self.file, self.limit, self.precisions = file, args.limit, args.precisions
        self.end = time.monotonic() + args.total if args.total else None
        self.lines = []

    def add(self, line):
        self.lines.append(line)
        print(json.dumps(line), file=self.file, flush=True)

    def left(self):
        """Seconds for what comes next."""
        return self.limit if self.end is None else min(self.limit, self.end - time.monotonic())

    def measure(self, part, side, command, more):
        """One program; `more` is added to its lines."""
        command, seconds = [str(word) for word in command], self.left()
        failed = {"side": side, "part": part, **described(command), **more}
        if seconds < 1:
            self.add(failed | {"error": "not begun, the time was over"})
            return
        if command[1].endswith(("ops_torch.py", "mixer_torch.py")):  # many figures: the limit is each one's
            command += ["--limit", str(int(seconds))]
            seconds = self.end - time.monotonic() if self.end is not None else None
        print(f"run_gpu.py: {part}: {' '.join(command)}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            out, err = pathlib.Path(folder, "out"), pathlib.Path(folder, "err")
            written = out
            if command[0].endswith("_bench") and not command[0].endswith("train_step_bench"):
                written = pathlib.Path(folder, "out.json")
                command += [f"--benchmark_out={written}", "--benchmark_out_format=json"]
            with out.open("wb") as to, err.open("wb") as errors:
                try:
                    status = subprocess.run(command, stdout=to, stderr=errors, timeout=seconds, check=False).returncode
                    error = f"status {status}: {last_line(err)}" if status else None
                except subprocess.TimeoutExpired:
                    error = f"stopped after {seconds:.0f} s"
                except OSError as problem:
                    error = str(problem)
            try:
                lines = lines_of(written)
            except (OSError, ValueError, KeyError) as problem:
                lines, error = [], error or f"not understood: {problem}"
        for line in lines:
            # (wedge's filter of all other operations leaves no room for one of precisions.)
            if part != "ops" or line.get("precision", PRECISIONS[0]) in (*self.precisions, "bf16_tensors"):
                self.add({"side": side} | line | more)
        if error:
            self.add(failed | {"error": error})


def lines_of(file):
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    if file.suffix == ".json" and text:
        output = ratios.benchmark_output(text)
        return [ratios.rates_line(output), *ratios.wedge_lines(output)]
    return list(ratios.json_lines(text))


def last_line(file):
    return (file.read_text(encoding="utf-8", errors="replace").strip() or "nothing").splitlines()[-1][:300]


def described(command):
    """What a step's line would say of itself."""
    if "--model" not in command:
        return {}
    value = {word: command[i + 1] for i, word in enumerate(command[:-1])}
    return {"model": value["--model"], "amp": "--amp" in command,
            "variant": ratios.variant_of(value.get("--compile", "eager"), value["--form"], "--graph" in command)}


def prepare(parts, jobs, run):
    """Compiles the training steps at once, into the cache that they find when they are timed."""
    commands = [c for part in parts.values() for c in part.pytorch if "--compile" in c]
    if jobs < 2 or not commands:
        return
    print(f"run_gpu.py: compiling {len(commands)} training steps, {jobs} at a time", file=sys.stderr)

    def once(command):
        words = [str(word) for word in command]
        words[words.index("--steps") + 1] = "1"
        try:
            subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=max(1, run.left()), check=False)
        except subprocess.TimeoutExpired:
            pass  # the timed one says so
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(once, commands))


def about_the_run(args):
    """The first line."""
    try:
        import torch
    except ImportError as error:
        sys.exit(refusal(f"{sys.executable}: {error}"))
    if not torch.cuda.is_available():
        sys.exit(refusal(f"PyTorch sees no GPU ({sys.executable})"))
    query = subprocess.run(["nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.max.sm,power.limit,utilization.gpu",
                            "--format=csv,noheader"], capture_output=True, text=True, check=False).stdout.strip()
    return {"side": "run", "device": torch.cuda.get_device_name(0), "commit": args.commit, "torch": torch.__version__,
            "cuda": torch.version.cuda, "driver, clocks, power, use": query,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}


def refusal(text):
    print(f"run_gpu.py: {text}", file=sys.stderr)
    return 2


def new_file(folder, about):
    """A results file that was not there before."""
    folder.mkdir(parents=True, exist_ok=True)
    device = re.sub("[^a-z0-9_-]", "", about["device"].lower().replace(" ", "_"))
    name = f"{about['date'][:10]}_gpu_{device}"
    for number in range(1, 1000):
        try:
            return (folder / f"{name}{f'_{number}' if number > 1 else ''}.jsonl").open("x", encoding="utf-8")
        except FileExistsError:
            continue
    raise OSError(f"{folder}: too many results of one day")


def arguments(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="default: build")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the results (default: bench/results; with --quick nowhere)")
    parser.add_argument("--parts", help="default: step mixer attention rows length ops; with --goals the first four")
    parser.add_argument("--goals", action="store_true", help="only what is asked of wedge: bfloat16 products, training steps, "
                        "Grassmann mixers of 32x128 and 512x128, attention at batch 32, rows of 65,536")
    parser.add_argument("--precisions", help="default: amp float32; with --goals amp")
    parser.add_argument("--modes", default=" ".join(MODES), help="torch.compile's (default: %(default)s); reduce-overhead "
                        "alone compiles soonest")
    parser.add_argument("--compile-ops", action="store_true", help="torch.compile for single operations too")
    parser.add_argument("--limit", type=int, default=900, metavar="SECONDS", help="for a figure of PyTorch, compiling "
                        "included, and for a program of wedge's (default: %(default)s)")
    parser.add_argument("--total", type=int, default=0, metavar="SECONDS", help="for all of it (default: no end)")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 3),
                        help="training steps that are compiled at a time before any is timed (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small sizes and short rounds: to see that it works")
    parser.add_argument("--commit", help="for the record (default: what git says)")
    args = parser.parse_args(words)
    for option, all_of_it, asked in (("precisions", "amp float32", "amp"),
                                     ("parts", "step mixer attention rows length ops", "step mixer attention rows")):
        if getattr(args, option) is None:
            setattr(args, option, asked if args.goals else all_of_it)
    for option, known in (("parts", ("step", "mixer", "attention", "rows", "length", "ops")), ("precisions", PRECISIONS),
                          ("modes", tuple(MODES))):
        chosen = getattr(args, option).split()
        for word in chosen or [""]:
            if word not in known:
                parser.error(f"--{option}: expected {', '.join(known)}, got {word or 'nothing'}")
        setattr(args, option, chosen)
    for option, least in (("limit", 1), ("total", 0), ("jobs", 1)):
        if getattr(args, option) < least:
            parser.error(f"--{option}: expected at least {least}, got {getattr(args, option)}")
    if not args.commit:
        described_by_git = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True,
                                          text=True, check=False).stdout.strip()
        args.commit = described_by_git or "unknown"
    return args


def main(words=None, about=about_the_run):
    args = arguments(words)
    for program in ("ops_bench", "mixer_bench", "train_step_bench"):
        if not os.access(args.build / "bin" / program, os.X_OK):
            return refusal(f"no {args.build}/bin/{program}: build with CUDA and Google Benchmark")
    first = about(args)
    with tempfile.TemporaryDirectory() as nowhere:
        folder = args.out or (pathlib.Path(nowhere) if args.quick else ROOT / "bench" / "results")
        try:
            file = new_file(folder, first)
        except OSError as error:
            return refusal(str(error))
        with file:
            run = Run(file, args)
            run.add(first)
            parts = parts_of(args)
            prepare(parts, args.jobs, run)
            for name, part in parts.items():
                for side, commands, more in (("wedge", part.wedge, {"round": 1}), ("pytorch", part.pytorch, {}),
                                             ("wedge", part.wedge, {"round": 2})):
                    for command in commands:
                        run.measure(name, side, command, more)
        ratios.table(run.lines)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
