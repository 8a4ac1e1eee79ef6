"""bench/peers/run_gpu.py from end to end, with programs that print invented figures, fail, or never end."""

import contextlib
import io
import json
import os
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "peers"))
import ratios  # noqa: E402
import run_gpu  # noqa: E402

# What ops_bench and mixer_bench do: Google Benchmark's output, of repetitions and their aggregates.
BENCH = '''#!{python}
import json, sys, time
out = next(word.split("=", 1)[1] for word in sys.argv if word.startswith("--benchmark_out="))
def row(name, ms, **more):
    common = {{"run_name": name + "/manual_time", "repetitions": 5, "time_unit": "ms", "of_copy": 0.5, **more}}
    return [{{"run_type": "iteration", "real_time": ms * 7, **common}}] + [
        {{"run_type": "aggregate", "aggregate_name": kind, "real_time": ms * factor, **common}}
        for kind, factor in (("mean", 9), ("median", 1))]
rows = {rows}
json.dump({{"context": {{"gpu": "invented", "cuda copy GB/s": "1.0"}}, "benchmarks": rows}}, open(out, "w"), indent=2)
{then}
'''
# As Google Benchmark writes it, and stopped in the middle of a row.
TORN = '''{
  "context": {
    "gpu": "invented"
  },
  "benchmarks": [
    {
      "run_name": "add/forward/cuda/manual_time",
      "run_type": "iteration",
      "real_time": 4.0,
      "time_unit": "ms"
    },
    {
      "run_name": "exp/forw'''
SDPA = "causal_attention/B=16 L=128 H=4 D=256"
TORCH = '''import json, sys
option = {sys.argv[i]: sys.argv[i + 1] for i in range(1, len(sys.argv) - 1)}
{body}
'''
STEP = '''form, mode = option["--form"], option.get("--compile", "eager")
if form == "product": sys.exit("a product too many")
if form == "shifted":
    import time; time.sleep(60)
speed = {"eager": 100, "reduce-overhead": 200}[mode] * (2 if "--graph" in sys.argv else 1)
print("noise"); print(json.dumps({"model": option["--model"], "amp": "--amp" in sys.argv,
    "variant": mode + ("_graph" if "--graph" in sys.argv else "") + ("" if form == "plain" else "+" + form),
    "tokens_per_second": speed, "peak_tensor_mib": 900, "device_memory_mib": 1600}))'''
CASES = '''def line(case, variant, ms, precision="amp", of_pass="forward+backward", **more):
    print(json.dumps({"side": "pytorch", "case": case, "pass": of_pass, "precision": precision, "variant": variant,
                      "milliseconds": ms} | more), flush=True)
if "mixer" in option["--filter"]:
    mixer = "mixer/grassmann/32x128"
    line(mixer, "eager", 7.0); line(mixer, "eager+product", 6.0); line(mixer, "compile_quick", 3.0)
    line(mixer, "compile_quick+shifted", 2.5)
    print('{"torn')
    print(json.dumps({"side": "pytorch", "case": mixer, "pass": "forward", "precision": "amp", "variant": "eager_graph",
                      "error": "RuntimeError: invented"}))
elif "causal" in option["--filter"]:
    line("%s", "eager_graph", 0.4, "bf16_tensors", "forward")
    line("%s", "eager_graph+cudnn", 0.25, "bf16_tensors", "forward")''' % (SDPA, SDPA.replace("causal_attention", "sdpa_alone"))


class RunGpu(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        self.addCleanup(setattr, run_gpu, "PEERS", run_gpu.PEERS)
        run_gpu.PEERS = self.root
        for script, body in (("train_step_torch.py", STEP), ("mixer_torch.py", CASES), ("ops_torch.py", CASES)):
            (self.root / script).write_text(TORCH.replace("{body}", body))
        self.program("mixer_bench", BENCH.format(python=sys.executable, then="", rows='row("mixer/grassmann/32x128/'
                     'forward+backward/cuda_bf16", 2.0) + row("length/attention/1x65536/forward+backward/cuda", 8.0) + '
                     '2 * row("mixer/attention/32x128/forward/cuda", 1.0, error_occurred=True, error_message="out of memory")'))
        self.program("ops_bench", BENCH.format(python=sys.executable, then="sys.exit('lost')",
                                               rows=f'row("{SDPA} seed=3/forward/cuda_bf16", 0.5)'))
        self.program("train_step_bench", f"#!{sys.executable}\nimport os, sys\n" + '''
model = sys.argv[1].removeprefix("model=")
print('{"model": "%s", "amp": true, "tokens_per_second": %d, "peak_tensor_mib": 300, "device_memory_mib": 800}' % (model,
      300 if os.path.exists(model) else 330))
open(model, "w")
''')
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.root)

    def program(self, name, text):
        (self.root / "bin").mkdir(exist_ok=True)
        (self.root / "bin" / name).write_text(text)
        (self.root / "bin" / name).chmod(0o755)

    def run_it(self, *words):
        """Status, what was printed, the lines of the newest results file."""
        printed, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            try:
                status = run_gpu.main(["--build", str(self.root), "--out", str(self.root / "new/out"), "--commit", "c", *words],
                                      lambda args: {"side": "run", "device": "No GPU 1", "date": "2000-01-01T00:00:00"})
            except SystemExit as end:
                status = end.code
        files = sorted((self.root / "new/out").glob("*"), key=lambda file: file.stat().st_mtime)
        lines = [json.loads(line) for line in files[-1].read_text().splitlines()] if files else []
        return status, printed.getvalue(), errors.getvalue(), lines

    def test_figures_and_failures_are_joined(self):
        status, table, _, lines = self.run_it("--goals", "--parts", "step mixer attention rows length", "--modes",
                                              "reduce-overhead", "--limit", "2", "--jobs", "1")
        self.assertEqual(status, 0)
        self.assertEqual(lines[0]["side"], "run")
        for row in (
                # 2.0 ms beside the better of 7.0 and 6.0, and of 3.0 and 2.5.
                "| mixer/grassmann/32x128 | forward+backward | amp | 2.0000 | 0.50 | 3.00 | - | 1.25 | 1.25 |",
                f"| {SDPA} | forward | amp / bf16_tensors | 0.5000 | 0.50 | - | 0.80 | - | 0.80 |",
                f"| {SDPA} beside sdpa_alone | forward | amp / bf16_tensors | 0.5000 | 0.50 | - | 0.50 | - | 0.50 |",
                # The slower of wedge's rounds: 300 tokens a second beside 100, 200 captured and 200 compiled.
                "| attention | amp | 300 | 3.00 | 1.50 | 1.50 | reduce-overhead | 300 | 3.00 | 3.00 | 800 | 2.00 | 2.00 |",
                "| 65536 | float32 | - | 8.0000 | - | - |",
                "failed: pytorch mixer/grassmann/32x128 forward amp eager_graph: RuntimeError: invented",
                "failed: wedge 1 mixer/attention/32x128 forward float32: out of memory",
                "failed: pytorch grassmann True eager+product step: status 1: a product too many",
                "failed: pytorch grassmann True reduce-overhead+shifted step: stopped after 2 s",
                "failed: wedge 2 attention: status 1: lost"):
            self.assertIn(row, table)
        self.assertEqual(table.count("mixer/attention/32x128 forward float32: out of memory"), 4)  # a line a round of two parts

    def test_what_was_stopped_keeps_what_it_had(self):
        self.program("ops_bench", f'''#!{sys.executable}
import sys, time
with open(next(word.split("=", 1)[1] for word in sys.argv if word.startswith("--benchmark_out=")), "w") as file:
    file.write({TORN!r})
time.sleep(60)
''')
        _, table, _, lines = self.run_it("--parts", "rows", "--limit", "1")
        self.assertEqual([line["milliseconds"] for line in lines if line.get("case") == "add"], [4.0, 4.0])
        self.assertIn("failed: wedge 1 rows: stopped after 1 s", table)

    def test_time_that_is_over_is_said(self):
        self.program("mixer_bench", f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
        _, table, _, _ = self.run_it("--parts", "mixer", "--total", "2")
        self.assertIn("failed: wedge 1 mixer: stopped after 2 s", table)
        self.assertIn("failed: pytorch mixer: not begun, the time was over", table)

    def test_results_are_never_written_over(self):
        self.run_it("--parts", "length")
        self.run_it("--parts", "length")
        self.assertEqual(sorted(file.name for file in (self.root / "new/out").iterdir()),
                         ["2000-01-01_gpu_no_gpu_1.jsonl", "2000-01-01_gpu_no_gpu_1_2.jsonl"])

    def test_wrong_words_are_refused(self):
        for words, part in ((["--parts", "foo"], "--parts: expected step, mixer"), (["--parts", ""], "got nothing"),
                            (["--modes", "fast"], "--modes: expected reduce-overhead"), (["--limit", "0"], "at least 1"),
                            (["--build"], "expected one argument"), (["--build", "/none"], "no /none/bin/ops_bench")):
            status, _, errors, lines = self.run_it(*words)
            self.assertEqual((status, lines), (2, []), words)
            self.assertIn(part, errors.splitlines()[-1])

    def test_every_case_is_in_one_part(self):
        args = run_gpu.arguments([])
        patterns = [part.pytorch[0][part.pytorch[0].index("--filter") + 1] for name, part in run_gpu.parts_of(args).items()
                    if name != "step"]
        for case in (SDPA, "sdpa_alone/B=1", "layernorm/lead=[16, 128] D=256", "residual_layernorm/lead=[1]", "exp/shape=[1]",
                     "gate_layernorm/lead=[32, 128] D=256", "add/a=[1]", "mul/a=[1]", "mixer/grassmann/32x128", "length/attention/1x2"):
            program = "mixer_torch.py" if case.startswith(("mixer", "length")) else "ops_torch.py"
            found = [pattern for (name, part), pattern in zip(list(run_gpu.parts_of(args).items())[1:], patterns, strict=True)
                     if program in str(part.pytorch[0][1]) and run_gpu.re.search(pattern, case)]
            self.assertEqual(len(found), 1, (case, found))


class Ratios(unittest.TestCase):
    def test_several_cases_of_one_name_are_a_failure(self):
        line = {"side": "wedge", "pass": "forward", "precision": "amp", "milliseconds": 1.0}
        figures = ratios.Figures([line | {"case": "add/n=1 seed=1"}, line | {"case": "add/n=1 seed=2"}])
        self.assertEqual(figures.wedge("add/n=1", "forward", "amp"), {})
        self.assertIn("several cases", figures.failed[0]["error"])


if __name__ == "__main__":
    unittest.main()
