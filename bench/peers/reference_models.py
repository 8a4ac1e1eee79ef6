"""The two language models in PyTorch: what wedge is compared with.

`TransformerLM` and `GrassmannLM` share one decoder-only backbone; only the mixer of a block differs.
Parameter names are those of wedge's checkpoints, so `load_state_dict` works in both directions.
The Grassmann mixer follows its definition lag by lag (every Plücker vector is formed and normalised);
nothing here uses the identity by which wedge avoids that. Works in float32 and float64.

Dimensions: B batch, L sequence, D width, R reduced width, P = R (R - 1) / 2, V vocabulary.
"""

import copy
import dataclasses
import json

import torch
import torch.nn.functional as F
from torch import nn

NORM_FLOOR = 1e-6  # a Plücker vector is divided by max(its norm, this)


@dataclasses.dataclass
class ModelConfig:
    """Keys of wedge's `model` group, and the two sizes that come from the data."""

    tensor_lifting_strategy: str = "attention"
    num_layers: int = 6
    d_model: int = 256
    num_heads: int = 4
    expansion_ratio: int = 4
    d_low: int = 32
    lags: tuple = (1, 2, 4, 8, 12, 16)
    pre_norm: bool = False
    layerwise_lags: bool = False
    weight_tying: bool = True
    init: str = "torch"
    vocab_size: int = 30522
    max_context_len: int = 128
    dropout_rate: float = 0.1

    def model_json(self):
        """The `model` group alone, as the JSON text that a file's metadata holds."""
        fields = dataclasses.asdict(self)
        for key in ("vocab_size", "max_context_len", "dropout_rate"):
            del fields[key]
        fields["lags"] = list(self.lags)
        return json.dumps(fields)

    @staticmethod
    def from_metadata(metadata, dropout_rate=0.0):
        """Reads `model` (JSON), `vocab_size` and `max_context_len` of a checkpoint's metadata."""
        known = {field.name for field in dataclasses.fields(ModelConfig)}
        model = {k: v for k, v in json.loads(metadata["model"]).items() if k in known}
        data = json.loads(metadata["data"]) if "data" in metadata else {}
        model["vocab_size"] = int(metadata["vocab_size"])
        model["max_context_len"] = int(metadata.get("max_context_len") or data["max_context_len"])
        model["dropout_rate"] = dropout_rate
        return ModelConfig(**model)


class CausalAttention(nn.Module):
    """Multi-head softmax attention over the positions up to each one. [B,L,D] -> [B,L,D]."""

    def __init__(self, config, layer):
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv_projection = nn.Linear(config.d_model, 3 * config.d_model)
        self.out_projection = nn.Linear(config.d_model, config.d_model)

    def forward(self, h):
        batch, length, width = h.shape
        qkv = self.qkv_projection(h).view(batch, length, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, L, D / heads]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_projection(mixed.transpose(1, 2).reshape(batch, length, width))


def directions(z_i, z_j, back_i, back_j):
    """Plücker vectors of (z, back), divided by their norms; zero where one of the two is."""
    p = z_i * back_j - z_j * back_i
    return p / torch.linalg.vector_norm(p, dim=-1, keepdim=True).clamp(min=NORM_FLOOR)


class GrassmannMixer(nn.Module):
    """Plücker features of (z_t, z_{t-lag}), averaged over lags and gated into h. [B,L,D] -> [B,L,D].

    The same values in four forms, as none is the fastest everywhere: `by_product`, pairs of coordinates are taken by a
    product with ones and zeros, whose gradient is one too, and not by index; `shifted`, whole sequences moved on by a
    lag are added up, zeros where it reaches back too far, and not slices in place, which torch.compile takes minutes
    over (it nests each lag's expression in the next one's).
    """

    by_product = False
    shifted = False

    def in_form(self, by_product=False, shifted=False):
        """Itself, with the same parameters, in that form."""
        other = copy.copy(self)
        other.by_product, other.shifted = by_product, shifted
        return other

    def __init__(self, config, layer):
        super().__init__()
        rank = config.d_low
        self.lags = [config.lags[layer]] if config.layerwise_lags else list(config.lags)
        if rank < 2 or min(self.lags) < 1:
            raise ValueError(f"grassmann: d_low must be at least 2 and lags at least 1, got {rank}, {self.lags}")
        self.reduce = nn.Linear(config.d_model, rank)
        self.expand = nn.Linear(rank * (rank - 1) // 2, config.d_model)
        self.gate_proj = nn.Linear(2 * config.d_model, config.d_model)
        idx_i, idx_j = torch.triu_indices(rank, rank, offset=1)
        self.register_buffer("idx_i", idx_i, persistent=False)
        self.register_buffer("idx_j", idx_j, persistent=False)
        for name, idx in (("pick_i", idx_i), ("pick_j", idx_j)):
            self.register_buffer(name, F.one_hot(idx, rank).T.to(torch.get_default_dtype()), persistent=False)

    def plucker_mean(self, z):
        """Mean over the lags that reach no further back than position 0; zero where there is none."""
        length = z.shape[1]
        if self.by_product:
            z_i, z_j = z @ self.pick_i, z @ self.pick_j
        else:
            z_i, z_j = z[..., self.idx_i], z[..., self.idx_j]
        lags = [lag for lag in self.lags if lag < length]
        positions = torch.arange(length, device=z.device)
        count = sum(((positions >= lag).to(z.dtype) for lag in lags), torch.zeros(length, dtype=z.dtype, device=z.device))
        total = torch.zeros_like(z_i)
        for lag in lags:
            if self.shifted:
                total = total + directions(z_i, z_j, F.pad(z_i, (0, 0, lag, -lag)), F.pad(z_j, (0, 0, lag, -lag)))
            else:
                total[:, lag:] += directions(z_i[:, lag:], z_j[:, lag:], z_i[:, :-lag], z_j[:, :-lag])
        return total / count.clamp(min=1)[:, None]

    def forward(self, h):
        g = self.expand(self.plucker_mean(self.reduce(h)))
        alpha = torch.sigmoid(self.gate_proj(torch.cat([h, g], dim=-1)))
        return alpha * h + (1 - alpha) * g


class FeedForward(nn.Module):
    """Linear, exact GELU, Linear. [B,L,D] -> [B,L,D]."""

    def __init__(self, width, expansion_ratio):
        super().__init__()
        hidden = expansion_ratio * width
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, h):
        return self.layers(h)


class Block(nn.Module):
    """One mixer and one feed-forward network, normalised after (default) or before each of them."""

    def __init__(self, config, layer, mixer):
        super().__init__()
        self.pre_norm = config.pre_norm
        self.attention = mixer(config, layer)
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.ffn = FeedForward(config.d_model, config.expansion_ratio)
        self.ffn_norm = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, h):
        if self.pre_norm:
            h = h + self.dropout(self.attention(self.attention_norm(h)))
            return h + self.dropout(self.ffn(self.ffn_norm(h)))
        if isinstance(self.attention, GrassmannMixer):  # its gate already carries h
            h = self.dropout(self.attention_norm(self.attention(h)))
        else:
            h = self.attention_norm(h + self.dropout(self.attention(h)))
        return self.ffn_norm(h + self.dropout(self.ffn(h)))


class LanguageModel(nn.Module):
    """Token ids [B,L] -> logits [B,L,V]."""

    mixer = None

    def __init__(self, config):
        super().__init__()
        if config.layerwise_lags and len(config.lags) != config.num_layers:
            raise ValueError(f"layerwise_lags: expected {config.num_layers} lags, got {len(config.lags)}")
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding = nn.Embedding(config.max_context_len, config.d_model)
        self.transformer_blocks = nn.ModuleList(
            Block(config, layer, self.mixer) for layer in range(config.num_layers)
        )
        self.output_norm = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout_rate)
        if not config.weight_tying:
            self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.init == "gpt2":
            self.apply(init_gpt2)

    def forward(self, tokens):
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        h = self.dropout(self.token_embedding(tokens) + self.position_embedding(positions))
        for block in self.transformer_blocks:
            h = block(h)
        head = self.token_embedding if self.config.weight_tying else self.lm_head
        return F.linear(self.output_norm(h), head.weight)

    def loss(self, tokens, targets):
        """Mean cross-entropy in nats over all tokens of the batch."""
        return F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten())

    def num_params(self):
        return sum(p.numel() for p in self.parameters())


class TransformerLM(LanguageModel):
    mixer = CausalAttention


class GrassmannLM(LanguageModel):
    mixer = GrassmannMixer


def init_gpt2(module):
    """Weights N(0, 0.02) and no bias; what PyTorch draws by itself is `init=torch`."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def make_model(config):
    """The model that `config.tensor_lifting_strategy` names."""
    return {"attention": TransformerLM, "grassmann": GrassmannLM}[config.tensor_lifting_strategy](config)


def load_weights(model, tensors):
    """Loads a checkpoint's tensors; a head stored beside tied weights must equal the embedding."""
    ignored = ("attention.causal_mask", "attention.idx_i", "attention.idx_j")
    tensors = {name: t for name, t in tensors.items() if not name.endswith(ignored)}
    if model.config.weight_tying and "lm_head.weight" in tensors:
        if not torch.equal(tensors.pop("lm_head.weight"), tensors["token_embedding.weight"]):
            raise ValueError("lm_head.weight differs from token_embedding.weight, but the weights are tied")
    model.load_state_dict(tensors)


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Print the parameter counts of both models.")
    parser.add_argument("--num-layers", type=int, default=6)
    parser.add_argument("--max-context-len", type=int, default=128)
    args = parser.parse_args()
    for strategy in ("attention", "grassmann"):
        config = ModelConfig(strategy, num_layers=args.num_layers, max_context_len=args.max_context_len)
        print(f"{strategy} {make_model(config).num_params():,}")
