"""Time PyTorch's side of wedge's ops_bench, case by case; prints JSON lines (see timing.py).

A case's name is the beginning of ops_bench's. Attention is scaled_dot_product_attention on the projections as they
come, [B, L, 3 D], and once more with every tensor in bfloat16; sdpa_alone is the function by itself, on separate q, k
and v, which asks for less than wedge's operation does: nothing is taken apart and put together.
"""

import torch
import torch.nn.functional as F

import timing
from reference_models import GrassmannMixer, ModelConfig

BATCH, LENGTH, WIDTH, VOCAB = 16, 128, 256, 30522
FLOAT_ONLY = ("float32",)


def attention(heads):
    def run(qkv):
        batch, length, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        q, k, v = qkv.view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, width)
    return run


def with_cudnn(function):
    return {"plain": function, "cudnn": function}


def sdpa(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def plucker_linear(lags, device):
    mixer = GrassmannMixer(ModelConfig("grassmann", lags=lags), 0).to(device)

    def run(mixer):
        return lambda z, weight, bias: F.linear(mixer.plucker_mean(z), weight, bias)
    return {form: run(each) for form, each in timing.forms_of(mixer).items()}


def gate_blend(h, g, weight, bias):
    alpha = torch.sigmoid(F.linear(torch.cat([h, g], dim=-1), weight, bias))
    return alpha * h + (1 - alpha) * g


def feed_forward(x, up_weight, up_bias, down_weight, down_bias):
    return F.linear(F.gelu(F.linear(x, up_weight, up_bias)), down_weight, down_bias)


def self_attention(heads):
    attend = attention(heads)

    def run(x, qkv_weight, qkv_bias, out_weight, out_bias):
        return F.linear(attend(F.linear(x, qkv_weight, qkv_bias)), out_weight, out_bias)
    return run


def gate_layernorm(h, g, weight, bias, norm_weight, norm_bias):
    return F.dropout(F.layer_norm(gate_blend(h, g, weight, bias), norm_weight.shape, norm_weight, norm_bias), 0.1)


def token_position_embedding(tokens, positions, ids):
    return F.dropout(F.embedding(ids, tokens) + positions, 0.1)


def residual_layernorm(rate):
    def run(x, residual, weight, bias):
        return F.layer_norm(residual + F.dropout(x, rate), weight.shape, weight, bias)
    return run


def cases(args):
    """Name, function or its forms, what makes the inputs, precisions."""
    scale = 8 if args.quick else 1
    B, L, D, V = max(1, BATCH // scale), LENGTH // scale, WIDTH, VOCAB // scale
    rows, tall = B * L, 2048 // scale

    def n(*shape, scale=1):
        return lambda: scale * torch.randn(*shape)

    both, attention_too = ("float32", "amp"), ("float32", "amp", "bf16_tensors")

    def ids(*shape):
        return lambda: torch.randint(V, shape)

    for lags in ((1, 2, 4, 8, 12, 16), (1,)):
        yield (f"plucker_linear/B={B} L={L} R=32 D={D} lags=[{','.join(map(str, lags))}]", plucker_linear(lags, args.device),
               [n(B, L, 32), n(D, 496), n(D)], both)
    yield f"gate_blend/lead=[{B}, {L}] D={D}", gate_blend, [n(B, L, D), n(B, L, D), n(D, 2 * D), n(D)], both
    for batch in (2 * B, 32 * B):
        yield (f"gate_layernorm/lead=[{batch}, {L}] D={D}", gate_layernorm,
               [n(batch, L, D), n(batch, L, D), n(D, 2 * D), n(D), n(D), n(D)], both)
        yield (f"self_attention/B={batch} L={L} K={D} H=4 D={D} M={D}", with_cudnn(self_attention(4)),
               [n(batch, L, D), n(3 * D, D), n(3 * D), n(D, D), n(D)], both)
        yield (f"token_position_embedding/B={batch} L={L} V={V} P={L} D={D}", token_position_embedding,
               [n(V, D), n(L, D), ids(batch, L)], FLOAT_ONLY)
    for batch, length in ((B, L), (B, 2 * L), (2 * B, L), (2 * B, 2 * L), (16 * B, 2 * L)):
        sizes = f"B={batch} L={length} H=4 D={D}"
        yield f"causal_attention/{sizes}", with_cudnn(attention(4)), [n(batch, length, 3 * D)], attention_too
        yield f"sdpa_alone/{sizes}", with_cudnn(sdpa), [n(batch, 4, length, D // 4)] * 3, ("bf16_tensors",)
    for inner, outer in ((256, 768), (256, 256), (256, 32), (1024, 256)):
        yield f"linear/lead=[{B}, {L}] K={inner} N={outer}", F.linear, [n(B, L, inner), n(outer, inner), n(outer)], both
    yield (f"linear_gelu/lead=[{B}, {L}] K=256 N=1024", lambda x, w, b: F.gelu(F.linear(x, w, b)),
           [n(B, L, 256), n(1024, 256), n(1024)], both)
    for batch in (B, 32 * B):
        yield (f"feed_forward/lead=[{batch}, {L}] K=256 N=1024 M=256", feed_forward,
               [n(batch, L, 256), n(1024, 256), n(1024), n(256, 1024), n(256)], both)
    for batch in (B, 32 * B):
        yield (f"layernorm/lead=[{batch}, {L}] D={D}", lambda x, w, b: F.layer_norm(x, w.shape, w, b),
               [n(batch, L, D), n(D), n(D)], FLOAT_ONLY)
        for rate in (0.1, 0):
            yield (f"residual_layernorm/lead=[{batch}, {L}] D={D} rate={rate}", residual_layernorm(rate),
                   [n(batch, L, D), n(batch, L, D), n(D), n(D)], FLOAT_ONLY)
    yield (f"linear_cross_entropy/lead=[{B}, {L}] V={V} D={D}", lambda x, w, t: F.cross_entropy(F.linear(x, w), t),
           [n(rows, D), n(V, D, scale=0.1), ids(rows)], both)
    yield f"dropout/shape=[{B}, {L}, {D}]", lambda x: F.dropout(x, 0.1), [n(B, L, D)], FLOAT_ONLY
    for batch in (B, 32 * B):
        yield (f"residual_dropout/shape=[{batch}, {L}, {D}]", lambda x, y: x + F.dropout(y, 0.1),
               [n(batch, L, D), n(batch, L, D)], FLOAT_ONLY)
    yield f"embedding/ids=[{B}, {L}] V={V} D={D}", lambda w, i: F.embedding(i, w), [n(V, D), ids(B, L)], FLOAT_ONLY
    yield f"softmax/shape=[{tall}, {D}]", lambda x: F.softmax(x, -1), [n(tall, D)], FLOAT_ONLY
    yield f"log_softmax/shape=[256, {V}]", lambda x: F.log_softmax(x, -1), [n(256, V)], FLOAT_ONLY
    yield f"cross_entropy/lead=[256] V={V}", F.cross_entropy, [n(256, V), ids(256)], FLOAT_ONLY
    yield "matmul/a=[1024, 1024] b=[1024, 1024]", torch.matmul, [n(1024, 1024), n(1024, 1024)], both
    yield ("matmul/a=[64, 128, 64] b=[64, 128, 64]ᵀ", lambda a, b: a @ b.transpose(-1, -2),
           [n(64, 128, 64), n(64, 128, 64)], both)
    for height in (tall, 32 * tall):
        for name, function in (("exp", torch.exp), ("sigmoid", torch.sigmoid), ("gelu", F.gelu)):
            yield f"{name}/shape=[{height}, 1024]", function, [n(height, 1024)], FLOAT_ONLY
        yield f"add/a=[{height}, {D}] b=[{height}, {D}]", torch.add, [n(height, D), n(height, D)], FLOAT_ONLY
    yield f"mul/a=[{tall}, {D}] b=[{D}]", torch.mul, [n(tall, D), n(D)], FLOAT_ONLY
    for dim in (0, 1):
        yield f"sum/shape=[{tall}, 1024] dim={dim}", lambda x, dim=dim: x.sum(dim), [n(tall, 1024)], FLOAT_ONLY


def main():
    args = timing.parse_arguments(__doc__, ["ops"])
    for name, function, inputs, precisions in cases(args):
        timing.report(args, name, function, inputs, precisions=precisions)


if __name__ == "__main__":
    main()
