"""Event files of a run that was killed and taken up again, read by TensorBoard's own package: every step once, with
the values of metrics.jsonl.

usage: tensorboard_files.py WEDGE
"""

import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    print("skipped: no tensorboard")
    sys.exit(77)

WORDS = """model=grassmann data=builtin experiment=quick model.num_layers=1 train.num_epochs=3 train.batch_size=64
data.max_samples_train=200 data.max_samples_val=30 train.checkpoint_every=4 train.tensorboard=true""".split()


def steps_of(run):
    path = run / "metrics.jsonl"
    return sum('"step"' in line for line in path.read_text().splitlines()) if path.exists() else 0


def main():
    wedge = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        child = subprocess.Popen([wedge, "train", *WORDS, f"experiment.run_dir={run}"], stdout=subprocess.DEVNULL)
        while steps_of(run) < 6 and child.poll() is None:
            time.sleep(0.002)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "the run ended before it was killed"
        subprocess.run([wedge, "train", f"resume={run}"], stdout=subprocess.DEVNULL, check=True)
        assert len(list(run.glob("events.out.tfevents.*"))) == 2

        events = EventAccumulator(str(run))
        events.Reload()
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if "step" in line]
        epochs = [line for line in lines if "val_loss" in line]
        assert len(epochs) == 3 and steps
        for tag, key in [("loss/train", "loss"), ("learning_rate", "learning_rate"), ("grad_norm", "grad_norm")]:
            scalars = events.Scalars(tag)
            assert [s.step for s in scalars] == [line["step"] for line in steps], tag
            for scalar, line in zip(scalars, steps):
                assert math.isclose(scalar.value, line[key], rel_tol=1e-6, abs_tol=1e-30), (tag, scalar, line)
        per_epoch = len(steps) // 3
        for tag, key in [("loss/train_epoch", "train_loss"), ("loss/validation", "val_loss")]:
            scalars = events.Scalars(tag)
            assert [s.step for s in scalars] == [per_epoch * e - 1 for e in (1, 2, 3)], tag
            for scalar, line in zip(scalars, epochs):
                assert math.isclose(scalar.value, line[key], rel_tol=1e-6), (tag, scalar, line)
    print(f"{len(steps)} steps, {len(epochs)} epochs")


main()
