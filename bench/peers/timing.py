"""How PyTorch is timed: as wedge's bench/stopwatch.h does it, on the same sizes, one JSON line a figure.

On a GPU a call's time is that of a sweep over so many sets of inputs that none is left in L2, between two CUDA
events, divided by their number; the figure is the median of five rounds, each the mean over at least 0.1 s. What is
captured runs twice and is timed the second time, so that the host's launch is not in it. Variants:

  eager           as it is: where the host is slower than the GPU, the host's time
  eager_graph     the same sweep captured in a CUDA graph and replayed, as wedge's calls are
  compile         torch.compile, mode max-autotune, which makes CUDA graphs of its own
  compile_graph   torch.compile, mode max-autotune-no-cudagraphs, and the sweep captured
  compile_quick   torch.compile, mode reduce-overhead: CUDA graphs without minutes of autotuning; only if asked for

On the CPU (one set of inputs, the host's clock) there are eager and compile. Where a careful user has a choice
and none is always the fastest, a case has several forms, and a variant is called `variant+form`:

  plain              scaled_dot_product_attention by the backend that PyTorch takes; the Grassmann mixer lag by lag
  +cudnn             on a GPU, cuDNN's attention first
  +product, +shifted, +shifted_product    the Grassmann mixer's other forms (reference_models.py)

Precisions: float32 (TF32 off), amp (bfloat16 autocast of float32 tensors; weights are cast in every call, where wedge has
the copies that its optimizer keeps) and, where a case has it, bf16_tensors.
"""

import argparse
import contextlib
import datetime
import json
import math
import re
import signal
import statistics
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import ratios

COMPILE_MODES = {"compile": "max-autotune", "compile_graph": "max-autotune-no-cudagraphs",
                 "compile_quick": "reduce-overhead"}
VARIANTS = ("eager", "eager_graph", *COMPILE_MODES)
GRASSMANN_FORMS = ("product", "shifted", "shifted_product")
FORMS = ("plain", "cudnn", *GRASSMANN_FORMS)
UNCOMPILED = ("plain", "product")  # of the Grassmann mixer: torch.compile takes minutes over them
PRECISIONS = ("float32", "amp", "bf16_tensors")
PASSES = ("forward", "forward+backward")
CUDNN_FIRST = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def at_least(least):
    """The type of a whole number that is not smaller."""
    def number(text):
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, got {text}")
        return int(text)
    return number


def words(parser, option, text, known):
    """The words of an option, each one of those that are known."""
    for word in text.split(","):
        if word not in known:
            parser.error(f"{option}: expected {', '.join(known)}, got {word or 'nothing'}")
    return text.split(",")


def check_device(parser, device):
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: expected one that is there, got cuda, and PyTorch sees no GPU")


def parse_arguments(description, groups):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes, short rounds: to see that it works")
    parser.add_argument("--groups", default=",".join(groups), help="default: %(default)s")
    parser.add_argument("--filter", default="", help="only cases in whose name this regular expression is found")
    parser.add_argument("--variants", help="default: all that the device has, but compile_quick")
    parser.add_argument("--forms", help="of the cases that have several (default: all, but of the Grassmann mixer compiled "
                        f"those alone that compile well), of {', '.join(FORMS)}")
    parser.add_argument("--precisions", help="default: float32, and on a GPU amp and bf16_tensors")
    parser.add_argument("--passes", default=",".join(PASSES), help="default: %(default)s")
    parser.add_argument("--limit", type=at_least(0), default=0, metavar="SECONDS",
                        help="give up a figure, compiling included, that takes longer (default: none)")
    parser.add_argument("--commit", default="unknown", help="wedge's commit, for the record")
    args = parser.parse_args()
    check_device(parser, args.device)
    cuda = args.device == "cuda"
    all_variants = "eager,eager_graph,compile,compile_graph" if cuda else "eager,compile"
    all_precisions = ",".join(PRECISIONS) if cuda else "float32"
    args.variants = words(parser, "--variants", all_variants if args.variants is None else args.variants,
                          VARIANTS if cuda else ("eager", "compile"))
    args.groups = words(parser, "--groups", args.groups, groups)
    args.forms = None if args.forms is None else words(parser, "--forms", args.forms, FORMS)
    args.precisions = words(parser, "--precisions", all_precisions if args.precisions is None else args.precisions, PRECISIONS)
    args.passes = words(parser, "--passes", args.passes, PASSES)
    try:
        args.filter = re.compile(args.filter)
    except re.error as error:
        parser.error(f"--filter: expected a regular expression, got {args.filter}: {error}")
    torch.set_float32_matmul_precision("highest")
    torch.manual_seed(7)
    return args


def device_name(device):
    return torch.cuda.get_device_name(0) if device == "cuda" else "cpu"


def stamp(args):
    """What every line says about where it comes from."""
    return {"device": device_name(args.device), "commit": args.commit, "quick": getattr(args, "quick", False),
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "torch": torch.__version__}


def sets_beyond_cache(inputs, device):
    """bench/stopwatch.h: three times L2, at least 2 sets and at most 256; one on the CPU."""
    if device == "cpu":
        return 1
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    size = sum(t.numel() * t.element_size() for t in inputs)
    return int(min(256, max(2, math.ceil(3 * cache / max(1, size)))))


class Sweep:
    """Calls function(*inputs) on each set in turn, with a backward pass from 1e-3 everywhere if asked for.

    `plain` is the function before it was compiled: it says of what shape a result is.
    """

    def __init__(self, function, plain, inputs, parameters, backward, precision, device):
        dtype = torch.bfloat16 if precision == "bf16_tensors" else None

        def copy(t):
            t = t.to(device=device, dtype=dtype if t.is_floating_point() else None, copy=True)
            return t.requires_grad_(backward and t.is_floating_point())

        self.function, self.parameters, self.backward = function, parameters, backward
        self.amp, self.device = precision == "amp", device
        self.sets = [[copy(t) for t in inputs] for _ in range(sets_beyond_cache(inputs, device))]
        self.results = [None] * len(self.sets)
        with torch.no_grad(), self.autocast():
            self.dy = torch.full_like(plain(*self.sets[0]), 1e-3)

    def autocast(self):
        # Without the cache of cast weights, which must not outlive what a graph captures.
        return torch.autocast(self.device, torch.bfloat16, cache_enabled=False) if self.amp else contextlib.nullcontext()

    def forget(self):
        self.results = [None] * len(self.sets)
        for t in [*self.parameters, *(t for inputs in self.sets for t in inputs)]:
            t.grad = None

    def run(self, mark_steps=False):
        for i, inputs in enumerate(self.sets):
            if mark_steps:
                torch.compiler.cudagraph_mark_step_begin()
            if not self.backward:
                with torch.no_grad(), self.autocast():
                    self.results[i] = self.function(*inputs)
                continue
            for t in self.parameters:
                t.grad = None
            with self.autocast():
                y = self.function(*inputs)
            y.backward(self.dy)


def captured(sweep):
    """The sweep as a CUDA graph; returns what replays it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            sweep.forget()
            sweep.run()
    torch.cuda.current_stream().wait_stream(side)
    sweep.forget()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        sweep.run()
    return graph.replay


def seconds_of(run, device, twice=False):
    """Seconds of one run(): CUDA events, or the host's clock; of the second, with no launch to wait for, if twice."""
    if device == "cpu":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    if twice:
        run()
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def median_of_rounds(run, device, forget, quick, twice):
    rounds = []
    for _ in range(1 if quick else 5):
        total, count = 0.0, 0
        while count < 1 or (total < 0.1 and not quick):
            forget()
            total, count = total + seconds_of(run, device, twice), count + 1
        rounds.append(total / count)
    return statistics.median(rounds)


def measure(sweep, variant, quick):
    """Milliseconds of one call."""
    if variant.endswith("_graph"):
        run, forget = captured(sweep), lambda: None
    else:
        marks = variant in ("compile", "compile_quick") and sweep.device == "cuda"
        run, forget = lambda: sweep.run(marks), sweep.forget
    for _ in range(3):
        forget()
        run()
    twice = variant.endswith("_graph")
    return 1e3 * median_of_rounds(run, sweep.device, forget, quick, twice) / len(sweep.sets)


@contextlib.contextmanager
def time_limit(seconds):
    """TimeoutError after so many seconds; never if 0."""
    def stop(*_):
        raise TimeoutError(f"not done after {seconds} s")
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def forms_of(mixer):
    """The Grassmann mixer's forms by name."""
    return {"plain": mixer, "product": mixer.in_form(by_product=True), "shifted": mixer.in_form(shifted=True),
            "shifted_product": mixer.in_form(by_product=True, shifted=True)}


def backends(form):
    """The order in which scaled_dot_product_attention tries its backends."""
    return sdpa_kernel(CUDNN_FIRST, set_priority=True) if form == "cudnn" else contextlib.nullcontext()


def report(args, case, forms, inputs, parameters=(), precisions=("float32", "amp")):
    """Times one case in all its forms and prints a JSON line for each; what fails says why in its line.

    `forms` is a function, or several by their form's name; `inputs` are tensors, or functions that make them.
    """
    if not args.filter.search(case):
        return
    inputs = [make() if callable(make) else make for make in inputs]
    forms = forms if isinstance(forms, dict) else {"plain": forms}

    def is_wanted(form, variant):
        if form == "cudnn" and args.device == "cpu":
            return False
        if args.forms:
            return form in args.forms
        return not (variant in COMPILE_MODES and form in UNCOMPILED and "shifted" in forms)

    for precision in (p for p in args.precisions if p in precisions):
        for of_pass in args.passes:
            for variant in args.variants:
                for form in (form for form in forms if is_wanted(form, variant)):
                    line = {"side": "pytorch", "case": case, "pass": of_pass, "variant": ratios.variant_of(variant, form),
                            "precision": precision}
                    print(json.dumps(line | figure(args, variant, form, forms[form], inputs, parameters, of_pass, precision)
                                     | stamp(args)), flush=True)


def figure(args, variant, form, function, inputs, parameters, of_pass, precision):
    """What a line says of the time."""
    torch.compiler.reset()
    try:
        with time_limit(args.limit), backends(form):
            compiled = variant in COMPILE_MODES
            timed = torch.compile(function, mode=COMPILE_MODES[variant]) if compiled else function
            sweep = Sweep(timed, function, inputs, parameters, of_pass != "forward", precision, args.device)
            return {"milliseconds": measure(sweep, variant, args.quick), "sets": len(sweep.sets)}
    except Exception as e:  # a mode that a machine lacks must not cost the other figures
        return {"error": f"{type(e).__name__}: {e}".splitlines()[0][:300]}
    finally:
        sweep = None
        if args.device == "cuda":
            torch.cuda.empty_cache()
