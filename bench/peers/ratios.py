#!/usr/bin/env python3
"""Join wedge's and PyTorch's figures of one run (bench/peers/run_gpu.sh) and print what wedge gains.

usage: ratios.py collect META.json WEDGE.json ... PYTORCH.jsonl ...    one file of lines, to standard output
       ratios.py table RESULTS.jsonl                                   the table of ratios
       ratios.py invent DIRECTORY                                      invented input files, to try the two above

WEDGE.json is Google Benchmark's output, with repetitions: their median is taken. In the table a ratio above 1 says
that wedge is faster (or needs less memory); the other side is PyTorch's variant named above the column, `best` the
fastest of all variants of that precision. Figures that are missing are shown as `-`, never guessed.
"""

import json
import pathlib
import sys

MILLISECONDS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3}
MIXERS = [(mixer, size) for size in ("32x128", "512x128", "32x256") for mixer in ("grassmann", "attention")]


def wedge_lines(output):
    """Google Benchmark's JSON as lines: case, pass, precision, milliseconds and counters."""
    context = output["context"]
    for row in output["benchmarks"]:
        if row["aggregate_name"] != "median" if row["run_type"] == "aggregate" else row.get("repetitions", 1) > 1:
            continue
        parts = row["run_name"].removesuffix("/manual_time").split("/")
        place = parts.pop() if parts[-1].startswith("cuda") else "cpu"
        line = {"side": "wedge", "case": "/".join(parts[:-1]), "pass": parts[-1],
                "precision": "amp" if place == "cuda_bf16" else "float32",
                "device": context.get("gpu", "cpu") if place != "cpu" else "cpu"}
        if row.get("error_occurred"):
            yield line | {"error": row["error_message"]}
            continue
        counters = ("GB/s", "GFLOP/s", "of_copy", "of_matrix", "tokens/s", "sets", "graph")
        yield line | {"milliseconds": row["real_time"] * MILLISECONDS[row["time_unit"]],
                      **{key: row[key] for key in counters if key in row}}


def collect(meta_file, *files):
    lines = [{"side": "run", **json.loads(pathlib.Path(meta_file).read_text())}]
    for file in map(pathlib.Path, files):
        text = file.read_text()
        if file.suffix == ".json":
            output = json.loads(text)
            lines.append({"side": "rates", **{k: v for k, v in output["context"].items() if "/s" in k or k in ("gpu", "quick")}})
            lines += wedge_lines(output)
            continue
        lines += [{"side": "wedge"} | json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return lines


class Figures:
    def __init__(self, lines):
        self.lines = [line for line in lines if "error" not in line]
        self.failed = [line for line in lines if "error" in line]

    def wedge(self, case, of_pass, precision):
        found = [line for line in self.lines if line["side"] == "wedge" and line.get("pass") == of_pass
                 and line["precision"] == precision and (line["case"] == case or line["case"].startswith(case + " "))]
        if len(found) > 1:
            raise SystemExit(f"ratios.py: {case}, {of_pass}, {precision}: {len(found)} figures of wedge's, expected one")
        return found[0]["milliseconds"] if found else None

    def pytorch(self, case, of_pass, precision):
        """Milliseconds by variant."""
        return {line["variant"]: line["milliseconds"] for line in self.lines if line["side"] == "pytorch"
                and line.get("case") == case and line["pass"] == of_pass and line["precision"] == precision}

    def step(self, side, model, amp):
        """Lines of the train step by variant."""
        return {line.get("variant", ""): line for line in self.lines
                if line["side"] == side and line.get("model") == model and line["amp"] == amp}


def ratio(above, below):
    return f"{above / below:.2f}" if above and below else "-"


def show(milliseconds):
    return f"{milliseconds:.4f}" if milliseconds else "-"


def fastest(figures, prefix=""):
    return min((ms for variant, ms in figures.items() if variant.startswith(prefix)), default=None)


def case_row(figures, case, of_pass, precision, others=None):
    wedge = figures.wedge(case, of_pass, precision)
    torch = figures.pytorch(case, of_pass, others or precision)
    if wedge is None and not torch:
        return None
    return [case, of_pass, precision + (f" / {others}" if others else ""), show(wedge), ratio(torch.get("eager"), wedge),
            ratio(torch.get("eager_graph"), wedge), ratio(fastest(torch, "compile"), wedge), ratio(fastest(torch), wedge)]


def print_table(title, header, rows):
    rows = [row for row in rows if row]
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    if not rows:
        print("(no figures)")


def table(file):
    lines = [json.loads(line) for line in pathlib.Path(file).read_text().splitlines()]
    figures = Figures(lines)
    print(", ".join(f"{key} {value}" for key, value in lines[0].items() if key != "side"))
    header = ["case", "pass", "precision", "wedge ms", "over eager", "over eager graph", "over compile", "over best"]
    both = "forward+backward"
    print_table("Mixers", header, [case_row(figures, f"mixer/{mixer}/{size}", both, precision)
                                   for mixer, size in MIXERS for precision in ("float32", "amp")])
    cases = sorted({line["case"] for line in lines if line["side"] == "pytorch" and "case" in line})
    attention = [case for case in cases if case.startswith("causal_attention/")]
    print_table("Attention over SDPA", header,
                [case_row(figures, case, of_pass, *precisions) for case in attention for of_pass in ("forward", both)
                 for precisions in (("float32",), ("amp",), ("amp", "bf16_tensors"))])
    steps = []
    for model in ("grassmann", "attention"):
        for amp in (False, True):
            wedge = figures.step("wedge", model, amp).get("", {})
            torch = figures.step("pytorch", model, amp)
            compiled = [line for variant, line in torch.items() if variant != "eager"]
            eager, speed = torch.get("eager", {}), wedge.get("tokens_per_second")
            best = max(compiled, key=lambda line: line["tokens_per_second"], default={})
            memory = wedge.get("peak_tensor_mib")
            least = min((line["peak_tensor_mib"] for line in torch.values()), default=None)
            steps.append([model, "amp" if amp else "float32", f"{speed:,.0f}" if speed else "-",
                          ratio(speed, eager.get("tokens_per_second")), ratio(speed, best.get("tokens_per_second")),
                          f"{memory:,.0f}" if memory else "-", ratio(eager.get("peak_tensor_mib"), memory),
                          ratio(best.get("peak_tensor_mib"), memory), ratio(least, memory)] if wedge or torch else None)
    print_table("Train step", ["model", "precision", "wedge tokens/s", "over eager", "over compile", "wedge peak MiB",
                               "eager's peak over it", "compile's", "PyTorch's least"], steps)
    lengths = sorted({int(line["case"].rsplit("x", 1)[1]) for line in lines if line.get("case", "").startswith("length/")})
    tokens = {int(c.rsplit("x", 1)[1]): c.rsplit("/", 1)[1] for c in (line.get("case", "") for line in lines)
              if c.startswith("length/")}
    print_table("Cost as L grows, forward+backward, ms", ["L", "precision", "grassmann", "attention",
                "PyTorch grassmann, best", "PyTorch attention, best"],
                [[length, precision, *(show(figures.wedge(f"length/{mixer}/{tokens[length]}", both, precision))
                                       for mixer in ("grassmann", "attention")),
                  *(show(fastest(figures.pytorch(f"length/{mixer}/{tokens[length]}", both, precision)))
                    for mixer in ("grassmann", "attention"))]
                 for length in lengths for precision in ("float32", "amp")])
    print_table("Operations", header,
                [case_row(figures, case, of_pass, precision) for case in cases
                 if not case.startswith(("mixer/", "length/", "causal_attention/"))
                 for of_pass in ("forward", both) for precision in ("float32", "amp")])
    for line in figures.failed:
        print(f"\nfailed: {line['side']} {line['case']} {line['pass']} {line['precision']} {line.get('variant', '')}: {line['error']}")


def invent(directory):
    """Files as the programs write them, with numbers that nobody measured."""
    to = pathlib.Path(directory)
    context = {"gpu": "invented", "cuda copy GB/s": "1.0", "date": "invented"}

    def row(name, ms):
        common = {"run_name": name + "/manual_time", "repetitions": 5, "time_unit": "ms", "GB/s": 1.0}
        return [{"run_type": "iteration", "real_time": ms * 7, **common}] + [
            {"run_type": "aggregate", "aggregate_name": kind, "real_time": ms * factor, **common}
            for kind, factor in (("mean", 9), ("median", 1))]

    both, sdpa = "forward+backward", "causal_attention/B=16 L=128 H=4 D=256"
    rows = row(f"mixer/grassmann/32x128/{both}/cuda_bf16", 2.0) + row(f"length/attention/1x65536/{both}/cuda", 8.0)
    rows += row(f"{sdpa} deviation=1 seed=3/forward/cuda_bf16", 0.5)
    (to / "wedge_ops.json").write_text(json.dumps({"context": context, "benchmarks": rows}))
    torch = {"side": "pytorch", "pass": both, "precision": "amp"}
    mixer = torch | {"case": "mixer/grassmann/32x128"}
    lines = [mixer | {"variant": "eager", "milliseconds": 6.0}, mixer | {"variant": "compile", "milliseconds": 3.0},
             mixer | {"variant": "compile_graph", "milliseconds": 2.5},
             mixer | {"variant": "eager_graph", "error": "RuntimeError: invented"},
             torch | {"case": sdpa, "pass": "forward", "precision": "bf16_tensors", "variant": "eager", "milliseconds": 0.4}]
    step = {"model": "grassmann", "amp": True}
    lines += [step | {"side": "pytorch", "variant": variant, "tokens_per_second": speed, "peak_tensor_mib": memory}
              for variant, speed, memory in (("eager", 100.0, 900.0), ("max-autotune", 200.0, 600.0))]
    (to / "torch.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (to / "wedge_step.jsonl").write_text(json.dumps(step | {"tokens_per_second": 300.0, "peak_tensor_mib": 300.0}) + "\n")
    (to / "meta.json").write_text(json.dumps({"device": "invented", "commit": "invented", "date": "invented"}))


def main():
    match sys.argv[1:]:
        case ["collect", meta, *files]:
            for line in collect(meta, *files):
                print(json.dumps(line))
        case ["table", file]:
            table(file)
        case ["invent", directory]:
            invent(directory)
        case _:
            print(__doc__.strip(), file=sys.stderr)
            raise SystemExit(2)


if __name__ == "__main__":
    main()
