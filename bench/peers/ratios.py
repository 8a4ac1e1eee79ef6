#!/usr/bin/env python3
"""The table of what wedge gains over PyTorch, from the lines that run_gpu.py writes.

usage: ratios.py RESULTS.jsonl

A ratio above 1 says that wedge is faster, or needs less memory; the other side is the fastest of PyTorch's variants that
the column names, whatever their form (timing.py), `best` the fastest of all of that precision. Of wedge's two rounds the
slower counts. `of copy` is the rate beside that of a copy of the same bytes. Figures that are missing are shown as `-`,
never guessed, and what failed is listed below the tables.
"""

import json
import os
import pathlib
import sys

MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
MIXERS = [(mixer, size) for size in ("32x128", "512x128", "32x256") for mixer in ("grassmann", "attention")]
BOTH = "forward+backward"


def benchmark_output(text):
    """Google Benchmark's JSON; of a program that was stopped, what it had written."""
    try:
        return json.loads(text)
    except ValueError:
        whole, end, _ = text.rpartition("\n    },")
        if not end:
            raise
        return json.loads(whole + "\n    }\n  ]\n}")


def wedge_lines(output):
    """Google Benchmark's rows as lines: case, pass, precision, milliseconds and counters. Of repetitions the median."""
    context, failed = output["context"], set()
    for row in output["benchmarks"]:
        error = row.get("error_occurred")
        if not error and (row["aggregate_name"] != "median" if row["run_type"] == "aggregate" else row.get("repetitions", 1) > 1):
            continue
        parts = row["run_name"].removesuffix("/manual_time").split("/")
        place = parts.pop() if parts[-1].startswith("cuda") else "cpu"
        line = {"side": "wedge", "case": "/".join(parts[:-1]), "pass": parts[-1],
                "precision": "amp" if place == "cuda_bf16" else "float32",
                "device": context.get("gpu", "cpu") if place != "cpu" else "cpu"}
        if error:
            if row["run_name"] not in failed:
                yield line | {"error": row["error_message"]}
            failed.add(row["run_name"])
            continue
        counters = ("GB/s", "GFLOP/s", "of_copy", "of_matrix", "tokens/s", "sets", "graph")
        yield line | {"milliseconds": row["real_time"] * MILLISECONDS[row["time_unit"]],
                      **{key: row[key] for key in counters if key in row}}


def rates_line(output):
    """The limits of the machine that a benchmark took first."""
    return {"side": "rates", **{k: v for k, v in output["context"].items() if "/s" in k or k in ("gpu", "quick")}}


def json_lines(text):
    """The lines that are whole JSON objects."""
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


class Figures:
    def __init__(self, lines):
        self.lines = [line for line in lines if "error" not in line]
        self.failed = [line for line in lines if "error" in line]

    def wedge(self, case, of_pass, precision):
        """The line of wedge's slower round."""
        found = [line for line in self.lines if line["side"] == "wedge" and line.get("pass") == of_pass
                 and line["precision"] == precision and (line["case"] == case or line["case"].startswith(case + " "))]
        names = {line["case"] for line in found}
        if len(names) > 1:
            self.failed.append({"side": "wedge", "case": case, "pass": of_pass, "precision": precision,
                                "error": f"several cases of that name: {', '.join(sorted(names))}"})
            return {}
        return max(found, key=lambda line: line["milliseconds"], default={})

    def pytorch(self, case, of_pass, precision):
        """Milliseconds by variant."""
        return {line["variant"]: line["milliseconds"] for line in self.lines if line["side"] == "pytorch"
                and line.get("case") == case and line["pass"] == of_pass and line["precision"] == precision}

    def step(self, side, model, amp):
        """Lines of the train step."""
        return [line for line in self.lines if line["side"] == side and line.get("model") == model and line["amp"] == amp]


def ratio(above, below):
    return f"{above / below:.2f}" if above and below else "-"


def show(number, form=".4f"):
    return format(number, form) if number else "-"


def variant_of(name, form, graph=False):
    """What a line calls a variant of PyTorch's: how it runs, captured in a graph or not, and of which form."""
    return name + "_graph" * graph + ("" if form == "plain" else f"+{form}")


def kind(variant):
    """eager, eager_graph or compile, which is all that is compiled."""
    name = variant.split("+")[0]
    return name if name.startswith("eager") else "compile"


def fastest(figures, wanted=""):
    return min((ms for variant, ms in figures.items() if wanted in ("", kind(variant))), default=None)


def case_row(figures, case, of_pass, precision, others=None, other_case=None):
    line = figures.wedge(case, of_pass, precision)
    wedge, torch = line.get("milliseconds"), figures.pytorch(other_case or case, of_pass, others or precision)
    if wedge is None and not torch:
        return None
    name = case + (f" beside {other_case.split('/')[0]}" if other_case else "")
    return [name, of_pass, precision + (f" / {others}" if others else ""), show(wedge), show(line.get("of_copy"), ".2f"),
            *(ratio(fastest(torch, wanted), wedge) for wanted in ("eager", "eager_graph", "compile", ""))]


def step_row(figures, model, amp):
    wedge = min(figures.step("wedge", model, amp), key=lambda line: line["tokens_per_second"], default={})
    torch = figures.step("pytorch", model, amp)
    if not wedge and not torch:
        return None
    speed, peak, used = (wedge.get(key) for key in ("tokens_per_second", "peak_tensor_mib", "device_memory_mib"))

    def fastest_of(wanted):
        return max((line for line in torch if kind(line["variant"]) == wanted), key=lambda line: line["tokens_per_second"],
                   default={})

    kinds = [fastest_of(wanted) for wanted in ("eager", "eager_graph", "compile")]
    eager, _, compiled = kinds
    return [model, "amp" if amp else "float32", show(speed, ",.0f"),
            *(ratio(speed, line.get("tokens_per_second")) for line in kinds), compiled.get("variant", "-"),
            show(peak, ",.0f"), ratio(eager.get("peak_tensor_mib"), peak), ratio(compiled.get("peak_tensor_mib"), peak),
            show(used, ",.0f"), ratio(eager.get("device_memory_mib"), used), ratio(compiled.get("device_memory_mib"), used)]


def print_table(title, header, rows):
    rows = [row for row in rows if row]
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    if not rows:
        print("(no figures)")


def table(lines):
    figures = Figures(lines)
    print(", ".join(f"{key} {value}" for key, value in lines[0].items() if key != "side"))
    header = ["case", "pass", "precision", "wedge ms", "of copy", "over eager", "over eager graph", "over compile", "over best"]
    print_table("Train step", ["model", "precision", "wedge tokens/s", "over eager", "over eager graph", "over compile",
                               "which", "wedge peak MiB", "eager's peak over it", "compile's", "wedge's device MiB",
                               "eager's over it", "compile's"],
                [step_row(figures, model, amp) for model in ("grassmann", "attention") for amp in (False, True)])
    print_table("Mixers", header, [case_row(figures, f"mixer/{mixer}/{size}", BOTH, precision)
                                   for mixer, size in MIXERS for precision in ("float32", "amp")])
    cases = sorted({line["case"] for line in lines if "case" in line and line["side"] == "pytorch"})
    rows = []
    for case in (case for case in cases if case.startswith("causal_attention/")):
        alone = case.replace("causal_attention", "sdpa_alone")
        for of_pass in ("forward", BOTH):
            rows += [case_row(figures, case, of_pass, "float32"), case_row(figures, case, of_pass, "amp"),
                     case_row(figures, case, of_pass, "amp", "bf16_tensors"),
                     case_row(figures, case, of_pass, "amp", "bf16_tensors", alone) if alone in cases else None]
    print_table("Attention over SDPA", header, rows)
    lengths = {int(name.rsplit("x", 1)[1]): name.rsplit("/", 1)[1]
               for name in (line.get("case", "") for line in lines) if name.startswith("length/")}
    print_table("Cost as L grows, forward+backward, ms", ["L", "precision", "grassmann", "attention",
                "PyTorch grassmann, best", "PyTorch attention, best"],
                [[length, precision,
                  *(show(figures.wedge(f"length/{mixer}/{lengths[length]}", BOTH, precision).get("milliseconds"))
                    for mixer in ("grassmann", "attention")),
                  *(show(fastest(figures.pytorch(f"length/{mixer}/{lengths[length]}", BOTH, precision)))
                    for mixer in ("grassmann", "attention"))]
                 for length in sorted(lengths) for precision in ("float32", "amp")])
    print_table("Operations", header,
                [case_row(figures, case, of_pass, precision) for case in cases
                 if not case.startswith(("mixer/", "length/", "causal_attention/", "sdpa_alone/"))
                 for of_pass in ("forward", BOTH) for precision in ("float32", "amp")])
    for line in figures.failed:
        words = (line.get(key) for key in ("side", "round", "case", "model", "pass", "precision", "amp", "variant", "part"))
        print(f"\nfailed: {' '.join(str(word) for word in words if word is not None)}: {line['error']}")


def refuse(text):
    print(f"ratios.py: {text}", file=sys.stderr)
    sys.exit(2)


def main():
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(__doc__.strip())
        return
    if len(sys.argv) != 2:
        refuse(f"expected one file of run_gpu.py, got {len(sys.argv) - 1} words; see --help")
    try:
        lines = list(json_lines(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8", errors="replace")))
    except OSError as error:
        refuse(str(error))
    if not lines or lines[0].get("side") != "run" or not all("side" in line for line in lines):
        refuse(f"{sys.argv[1]}: expected lines of run_gpu.py, the first about the run")
    try:
        table(lines)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyError as error:
        refuse(f"{sys.argv[1]}: a line lacks {error}")


if __name__ == "__main__":
    main()
