"""wedge and PyTorch, there and back, as in a notebook: train with wedge, read the metrics with pandas, train on with
PyTorch, and go on with wedge from there.

usage: with_pytorch.py [WEDGE [FOLDER]]      (default: wedge on the PATH, a temporary folder)
"""

import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import pandas
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

# The two models in PyTorch, with wedge's names for the parameters.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "bench" / "peers"))
from reference_models import ModelConfig, load_weights, make_model

wedge = sys.argv[1] if len(sys.argv) > 1 else "wedge"
folder = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())


def run(*words):
    """Runs wedge and returns what it prints; what is wrong comes as an exception with its one line."""
    done = subprocess.run([wedge, *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def eval_loss(checkpoint):
    return json.loads(run("eval", f"checkpoint={checkpoint}"))["loss"]


# 1. A run, and its metrics.
first = folder / "first"
run("train", "model=grassmann", "data=builtin", "experiment=quick", "train.num_epochs=1", f"experiment.run_dir={first}")
metrics = pandas.read_json(first / "metrics.jsonl", lines=True)
steps, epochs = metrics[metrics.step.notna()], metrics[metrics.val_loss.notna()]
print(steps[["step", "loss", "grad_norm"]].tail(3).to_string(index=False))
print(f"validation loss {epochs.val_loss.iloc[-1]:.4f}")

# 2. The checkpoint in PyTorch. Its metadata says which model it is.
path = first / "best.safetensors"
with safe_open(path, "pt") as file:
    metadata = file.metadata()
model = make_model(ModelConfig.from_metadata(metadata))
load_weights(model, load_file(path))

# 3. Training on. `tokens` is any stream of ids; here what wedge generates from its own model.
words = {word: i for i, word in enumerate(metadata["vocabulary"].split("\n"))}
text = run("generate", f"checkpoint={path}", "prompt=Anna kept", "max_tokens=3000", "seed=1")
text = text.replace("\n\n", " <p> ").replace(".", " .").replace(",", " ,").split()
tokens = torch.tensor([words[w] if w in words else words[w.lower()] for w in text])
length = model.config.max_context_len
blocks = tokens[: len(tokens) // (length + 1) * (length + 1)].view(-1, length + 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
for _ in range(3):
    optimizer.zero_grad()
    loss = model.loss(blocks[:, :-1], blocks[:, 1:])
    loss.backward()
    optimizer.step()
print(f"PyTorch's loss on {blocks.numel()} generated tokens: {loss.item():.4f}")

# 4. Back to wedge: a state dict with the metadata is a checkpoint, to evaluate, generate from and go on from.
back = folder / "back.safetensors"
save_file({name: p.contiguous() for name, p in model.state_dict().items()}, back, metadata=metadata)
before, after = eval_loss(path), eval_loss(back)
print(f"validation loss before {before:.4f}, after PyTorch {after:.4f}")
second = folder / "second"
run("train", "model=grassmann", "data=builtin", "experiment=quick", "train.num_epochs=1", "train.learning_rate=1e-3",
    f"train.init_from={back}", f"experiment.run_dir={second}")
results = json.loads((second / "results.json").read_text())
print(f"after one more epoch of wedge {results['best_val_loss']:.4f}")

assert abs(before - epochs.val_loss.iloc[-1]) < 0.02  # means over tokens and over batches
assert 0 < abs(after - before) < 0.5
assert results["best_val_loss"] < before
