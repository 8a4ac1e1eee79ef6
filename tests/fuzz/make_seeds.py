"""Writes the seeds of the fuzz targets into seeds/. Needs pyarrow for Parquet's."""

import json
import pathlib
import struct
import zlib

SEEDS = pathlib.Path(__file__).parent / "seeds"


def seed(target, name, data):
    path = SEEDS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def safetensors(tensors, metadata=None):
    """tensors: name -> (dtype, shape, bytes)."""
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def f32(*values):
    return struct.pack(f"<{len(values)}f", *values)


def i32(*values):
    return struct.pack(f"<{len(values)}i", *values)


seed("safetensors", "two", safetensors({"w": ("F32", [2, 2], f32(1, 2, 3, 4)), "ids": ("I32", [3], i32(1, 2, 3))}, {"a": "b"}))
seed("safetensors", "types", safetensors({
    "a": ("BF16", [2], b"\0" * 4), "b": ("F64", [1], b"\0" * 8), "c": ("F16", [2], b"\0" * 4), "d": ("BOOL", [], b"\1"),
    "e": ("I64", [0, 5], b""), "f": ("U8", [1], b"\0")}))
seed("safetensors", "empty", safetensors({}))

seed("config", "words", "model=grassmann\ndata=builtin\ntrain.batch_size=4\nmodel.lags=[1,2]\nseed=1")
seed("config", "multirun", "model=attention,grassmann\nseed=1,2\nexperiment=quick")
seed("config", "own", "prompt=The \"river\"\ntop_k=3\ntop_p=0.5")
seed("config", "json", json.dumps({"model": {"num_layers": 2, "lags": [1, 2], "pre_norm": True},
                                   "train": {"learning_rate": 1e-3, "grad_clip": None}, "data": {"source": "builtin"}, "seed": 7}))

seed("tokens", "two", safetensors({"train": ("I32", [4], i32(0, 1, 2, 3)), "validation": ("I32", [2], i32(3, 0))}, {"vocab_size": "4"}))
seed("tokens", "wrong", safetensors({"train": ("I32", [2], i32(0, 9)), "validation": ("I64", [1], b"\0" * 8)}, {"vocab_size": "4"}))

seed("wordpiece", "text", "[UNK]\nthe\n##s\na\nriver\n\nThe rivers, \u00e4 \u4e2d x @-@ y 1\u00a0234.")
seed("wordpiece", "no_unknown", "the\na\n\nthe")
seed("wordpiece", "crlf", "[UNK]\r\nthe\r\n\r\n\n\nthe\0end")
seed("wordpiece", "numbers", "[UNK]\n\n1, 2 99\t3")

crc = 0
weights = {"w": f32(1, 2), "exp_avg.w": f32(0, 0), "exp_avg_sq.w": f32(0, 0)}
metadata = {"format_version": "1", "config": "{}", "corpus": "00000000",
            "progress": json.dumps({"step": 1, "batches_done": 1, "sum_of_batches": 2.5, "train_losses": [], "val_losses": [],
                                    "tokens": 8, "seconds": 0.1, "metrics_bytes": 0})}
for key in sorted(metadata):
    crc = zlib.crc32(key.encode() + b"\0" + metadata[key].encode() + b"\0", crc)
for name in sorted(weights):
    crc = zlib.crc32(weights[name], zlib.crc32(name.encode() + b"\0", crc))
metadata["crc32"] = f"{crc:08x}"
seed("state", "good", safetensors({name: ("F32", [2], raw) for name, raw in weights.items()}, metadata))
model = {"num_layers": 1, "d_model": 2, "num_heads": 1, "expansion_ratio": 1}
seed("state", "checkpoint", safetensors(
    {"token_embedding.weight": ("F32", [2, 2], f32(1, 2, 3, 4)), "position_embedding.weight": ("F32", [1, 2], f32(1, 2)),
     "transformer_blocks.0.attention_norm.weight": ("F32", [2], f32(1, 1)),
     "transformer_blocks.0.ffn.layers.0.weight": ("F32", [2, 2], f32(1, 2, 3, 4))},
    {"format_version": "1", "model": json.dumps(model), "data": json.dumps({"max_context_len": 1}), "train": "{}", "seed": "1",
     "vocab_size": "2", "vocabulary": "a\nb"}))

results = {"strategy": "grassmann", "num_params": 3, "best_val_loss": 1.5, "best_val_ppl": 4.48, "train_losses": [2, 1.7],
           "val_losses": [1.9, 1.5], "tokens_per_second": 10.5, "config": {"seed": 1, "data": {"source": "text"}}}
metrics = ('{"step":0,"epoch":1,"loss":5.5,"learning_rate":0.1,"grad_norm":1,"tokens_per_second":7}\n'
           '{"epoch":1,"train_loss":5.5,"val_loss":5}\n{"step":1,"epoch":2,"loss":4}\n{"st')
seed("metrics", "run", json.dumps(results) + "\n\n" + metrics)
seed("metrics", "nothing", "{}\n\n")

try:
    import pyarrow
    import pyarrow.parquet as parquet
except ImportError:
    print("no pyarrow: no Parquet seeds")
else:
    rows = ["", " = Title = \n", "the river \u00e4", "the river \u00e4"]
    for name, column, options in [
        ("plain", pyarrow.array(rows), {"compression": "none", "use_dictionary": False}),
        ("snappy", pyarrow.array(rows), {"compression": "snappy", "row_group_size": 2}),
        ("large", pyarrow.array(rows, pyarrow.large_string()), {"compression": "none"}),
        ("null", pyarrow.array(["a", None]), {"compression": "none"}),
        ("int", pyarrow.array([1, 2]), {"compression": "none"}),
    ]:
        path = SEEDS / "parquet" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.table({"text": column}), path, store_schema=False, **options)
