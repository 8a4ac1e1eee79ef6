// The index of all differentiable operations. Every one checks its inputs and throws wedge::Error naming
// itself, what was expected and what came. Shapes in brackets; [...] is any number of dimensions. dtypes are
// float32 or float64, on a GPU float32 alone, and must agree; indices are int32. Broadcasting and permuted
// views go up to 8 dimensions.
#pragma once

#include <concepts>
#include <cstdint>
#include <vector>

#include "autograd/variable.h"

namespace wedge {

// ---- Elementwise, with NumPy's broadcasting ----
Variable add(const Variable& a, const Variable& b);  // a + b
Variable sub(const Variable& a, const Variable& b);  // a - b
Variable mul(const Variable& a, const Variable& b);  // a · b
Variable div(const Variable& a, const Variable& b);  // a / b
Variable neg(const Variable& x);                     // -x
Variable exp(const Variable& x);                     // eˣ
Variable log(const Variable& x);                     // ln x
Variable sqrt(const Variable& x);                    // √x
Variable square(const Variable& x);                  // x²
Variable tanh(const Variable& x);                    // (eˣ - e⁻ˣ) / (eˣ + e⁻ˣ)
Variable sigmoid(const Variable& x);                 // 1 / (1 + e⁻ˣ)
Variable relu(const Variable& x);                    // max(x, 0), slope 0 at 0
Variable gelu(const Variable& x);                    // x Φ(x), exact (erf), not the tanh approximation

inline Variable operator+(const Variable& a, const Variable& b) {
  return add(a, b);
}
inline Variable operator-(const Variable& a, const Variable& b) {
  return sub(a, b);
}
inline Variable operator*(const Variable& a, const Variable& b) {
  return mul(a, b);
}
inline Variable operator/(const Variable& a, const Variable& b) {
  return div(a, b);
}
inline Variable operator-(const Variable& x) {
  return neg(x);
}
// With a number of x's dtype.
Variable operator+(const Variable& x, double c);
Variable operator*(const Variable& x, double c);
inline Variable operator+(double c, const Variable& x) {
  return x + c;
}
inline Variable operator-(const Variable& x, double c) {
  return x + -c;
}
inline Variable operator-(double c, const Variable& x) {
  return neg(x) + c;
}
inline Variable operator*(double c, const Variable& x) {
  return x * c;
}
Variable operator/(const Variable& x, double c);
Variable operator/(double c, const Variable& x);

// ---- Reductions ----
Variable sum(const Variable& x);                                   // over everything: []
Variable sum(const Variable& x, int dim, bool keep_dim = false);   // over one dimension
Variable mean(const Variable& x);                                  // over everything: []
Variable mean(const Variable& x, int dim, bool keep_dim = false);  // over one dimension
Variable max(const Variable& x, int dim, bool keep_dim = false);   // ties share the gradient evenly
// So that max(x, 0.0) does not mean dimension 0: there is no maximum of x and a number.
template <std::floating_point T>
Variable max(const Variable& x, T number, bool keep_dim = false) = delete;

// ---- Shape: the values do not change ----
Variable reshape(const Variable& x, Shape shape);  // one size may be -1
// Two dimensions exchanged.
Variable transpose(const Variable& x, int dim0, int dim1);
// Dimension i of the result is dimension order[i] of x.
Variable permute(const Variable& x, const std::vector<int>& order);
// Elements [begin, end) of a dimension.
Variable slice(const Variable& x, int dim, std::int64_t begin, std::int64_t end);
// Parts of one shape but for `dim`, joined along it.
Variable concat(const std::vector<Variable>& parts, int dim);
// Sizes of 1, and missing leading dimensions, repeated to `shape`.
Variable broadcast_to(const Variable& x, const Shape& shape);

// ---- Products ----
// [..., M, K] x [..., K, N] -> [..., M, N]; leading dimensions broadcast.
Variable matmul(const Variable& a, const Variable& b);
// x Wᵀ + b: x [..., K], weight [N, K], bias [N] or undefined -> [..., N].
Variable linear(const Variable& x, const Variable& weight, const Variable& bias = {});
// gelu(x Wᵀ + b), bias and activation in one pass.
Variable linear_gelu(const Variable& x, const Variable& weight, const Variable& bias = {});
// gelu(x Upᵀ + a) Downᵀ + b: x [..., K], up [N, K], a [N], down [M, N], b [M] -> [..., M]. With products of
// bfloat16 factors (Bf16ProductsGuard) what is between the two products is in bfloat16 too, and so is its
// gradient.
Variable feed_forward(const Variable& x, const Variable& up_weight, const Variable& up_bias,
                      const Variable& down_weight, const Variable& down_bias);

// ---- Indexing: ids are checked on the CPU only; on a GPU the caller answers for them ----
// weight [V, D], ids int32 [...] -> [..., D]: row ids[...] of weight.
Variable embedding(const Variable& weight, const Tensor& ids);
// x [..., N], ids int32 [...] -> [...]: element ids[...] of each row.
Variable gather(const Variable& x, const Tensor& ids);

// ---- Normalisation and probabilities, over the last dimension ----
Variable softmax(const Variable& x);      // exp(x - m) / Σ exp(x - m), m the row's maximum
Variable log_softmax(const Variable& x);  // x - m - ln Σ exp(x - m)
// (x - mean) / sqrt(var + eps) · weight + bias, var biased; x [..., D], weight and bias [D].
Variable layernorm(const Variable& x, const Variable& weight, const Variable& bias, double eps = 1e-5);
// Mean over all rows of -log softmax(logits)[target]: logits [..., V], targets int32 [...] -> [].
Variable cross_entropy(const Variable& logits, const Tensor& targets);
// cross_entropy(x Wᵀ, targets) without ever holding all logits: x [..., D], weight [V, D], targets int32
// [...] -> []. On a GPU backward needs x again, and throws where its storage was changed meanwhile.
Variable linear_cross_entropy(const Variable& x, const Variable& weight, const Tensor& targets);

// ---- Dropout ----
// Where a dropout gets its masks: they are a function of (seed, step, micro_step, site, element), so forward,
// backward and every device agree without storing any. An undefined counter or rate 0 switches it off.
struct Dropout {
  double rate = 0;         // in [0, 1)
  std::uint32_t site = 0;  // a number of its own for every dropout of a model
  Tensor counter = {};     // int64 [3]: seed, step, micro_step; a new tensor for every forward pass
  bool active() const { return rate > 0 && counter.defined(); }
};
// x · mask / (1 - rate)
Variable dropout(const Variable& x, const Dropout& dropout);
// h + dropout(x)
Variable residual_dropout(const Variable& h, const Variable& x, const Dropout& dropout);
// dropout(layernorm(x)), one pass.
Variable layernorm_dropout(const Variable& x, const Variable& weight, const Variable& bias,
                           const Dropout& dropout, double eps = 1e-5);
// dropout(token_weight[ids[b, l]] + position_weight[begin + l]), one pass, the bits of embedding, slice, add
// and dropout: token_weight [V, D], position_weight [P, D], ids int32 [B, L] in [0, V), begin + L <= P ->
// [B, L, D].
Variable token_position_embedding(const Variable& token_weight, const Variable& position_weight,
                                  const Tensor& ids, std::int64_t begin = 0, const Dropout& dropout = {});
// layernorm(h + dropout(x)), one pass.
Variable residual_layernorm(const Variable& h, const Variable& x, const Dropout& dropout,
                            const Variable& weight, const Variable& bias, double eps = 1e-5);

// ---- Mixers ----
// Softmax attention over positions <= t: qkv [B, L, 3D] holds q, k and v in that order, heads are slices of
// D / num_heads columns, on a GPU at most 128; scale 1 / sqrt(D / num_heads) -> [B, L, D].
Variable causal_attention(const Variable& qkv, std::int64_t num_heads);
// out(causal_attention(qkv(x), num_heads)) between two linear layers: x [B, L, K], qkv_weight [3 D, K],
// qkv_bias [3 D], out_weight [M, D], out_bias [M] -> [B, L, M]. On the GPU with products of bfloat16 factors
// (Bf16ProductsGuard) and float32 tensors, q, k, v, the heads' outputs and the gradients of all these are
// bfloat16 in memory.
Variable self_attention(const Variable& x, const Variable& qkv_weight, const Variable& qkv_bias,
                        const Variable& out_weight, const Variable& out_bias, std::int64_t num_heads);
// The mean unit Plücker vector p̄_t over the lags <= t, times Wᵀ, plus b (kernels/plucker_linear.h has the
// formula): z [B, L, R], weight [D, R (R - 1) / 2], bias [D] or undefined -> [B, L - begin, D], the positions
// from `begin` on, which look back at those before. Lags >= 1; a repeated one counts each time. On a GPU R is
// at most 4096, and there are at most 128 lags.
Variable plucker_linear(const Variable& z, const Variable& weight, const Variable& bias,
                        const std::vector<std::int64_t>& lags, std::int64_t begin = 0);
// α ∘ h + (1 - α) ∘ g with α = sigmoid([h ; g] Wᵀ + b): h and g [..., D], weight [D, 2D], bias [D] or
// undefined -> [..., D].
Variable gate_blend(const Variable& h, const Variable& g, const Variable& weight, const Variable& bias);
// dropout(layernorm(gate_blend(h, g, weight, bias), norm_weight, norm_bias, eps)), norm_weight and norm_bias
// [D]. On the GPU with products of bfloat16 factors (Bf16ProductsGuard), float32 and D a multiple of 8, at
// most 256, it is one kernel where a block may have 226 KB of shared memory (sm_90).
Variable gate_layernorm(const Variable& h, const Variable& g, const Variable& weight, const Variable& bias,
                        const Variable& norm_weight, const Variable& norm_bias, const Dropout& dropout,
                        double eps = 1e-5);

}  // namespace wedge
