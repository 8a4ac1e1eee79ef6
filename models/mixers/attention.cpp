#include "models/mixers/attention.h"

#include <cmath>
#include <utility>
#include <vector>

namespace wedge {

AttentionMixer::AttentionMixer(const ModelConfig& config, std::int64_t /*layer*/, Init& init)
    : num_heads_(config.num_heads),
      qkv_projection_(config.d_model, 3 * config.d_model, init),
      out_projection_(config.d_model, config.d_model, init) {
  add_child("qkv_projection", qkv_projection_);
  add_child("out_projection", out_projection_);
}

Variable AttentionMixer::operator()(const Variable& h) const {
  return self_attention(h, qkv_projection_.weight, qkv_projection_.bias, out_projection_.weight,
                        out_projection_.bias, num_heads_);
}

namespace {

// Of q, k or v, part 0, 1 or 2 of qkv [B, L, 3 D]: [B, heads, L, D / heads]
Tensor heads_of(const Tensor& qkv, std::int64_t part, std::int64_t num_heads) {
  const std::int64_t B = qkv.size(0), L = qkv.size(1), D = qkv.size(2) / 3;
  return qkv.slice(2, part * D, (part + 1) * D).reshape({B, L, num_heads, D / num_heads}).transpose(1, 2);
}
// q kᵀ / sqrt(D / heads)
Variable scores_of(const Variable& q, const Variable& k) {
  return matmul(q, transpose(k, 2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
}

struct KeysAndValues : Mixer::Memory {
  Tensor keys, values;  // [B, heads, capacity, d / heads]
  std::int64_t length = 0;
};

}  // namespace

std::unique_ptr<Mixer::Memory> AttentionMixer::make_memory(std::int64_t batch, std::int64_t capacity) const {
  const Tensor weight = qkv_projection_.weight.value();
  const Shape shape = {batch, num_heads_, capacity, weight.size(1) / num_heads_};
  auto memory = std::make_unique<KeysAndValues>();
  memory->keys = Tensor::empty(shape, weight.dtype(), weight.device());
  memory->values = Tensor::empty(shape, weight.dtype(), weight.device());
  return memory;
}

Variable AttentionMixer::extend(const Variable& h, Memory& memory) const {
  auto& past = memory_of<KeysAndValues>(memory);
  const Variable qkv = qkv_projection_(h);
  const auto part = [&](std::int64_t i) { return heads_of(qkv.value(), i, num_heads_); };
  const std::int64_t end = past.length + h.size(1);
  past.keys.slice(2, past.length, end).copy_from(part(1));
  past.values.slice(2, past.length, end).copy_from(part(2));
  const bool is_first = std::exchange(past.length, end) == 0;
  if (is_first) return out_projection_(causal_attention(qkv, num_heads_));

  const Variable k = past.keys.slice(2, 0, end), v = past.values.slice(2, 0, end);
  const Variable weights = softmax(scores_of(part(0), k));
  return out_projection_(reshape(permute(matmul(weights, v), {0, 2, 1, 3}), h.shape()));
}

Mixer::Trace AttentionMixer::trace(const Variable& h) const {
  const std::int64_t L = h.size(1);
  const Tensor qkv = qkv_projection_(h).value();
  std::vector<double> mask(static_cast<std::size_t>(L * L));
  for (std::int64_t t = 0; t < L; ++t)
    for (std::int64_t s = t + 1; s < L; ++s) mask[static_cast<std::size_t>(t * L + s)] = -1e30;
  const Variable future = Tensor::from(mask, {L, L}).to(h.dtype()).to(h.value().device());
  const Variable scores = scores_of(heads_of(qkv, 0, num_heads_), heads_of(qkv, 1, num_heads_));
  return {{"weights", softmax(scores + future).value()}};
}

void AttentionMixer::validate(const ModelConfig& config) {
  WEDGE_CHECK(config.num_heads >= 1, "model.num_heads: expected at least 1, got {}", config.num_heads);
  WEDGE_CHECK(config.d_model % config.num_heads == 0,
              "model.d_model: expected a multiple of model.num_heads={}, got {}", config.num_heads,
              config.d_model);
}

}  // namespace wedge
