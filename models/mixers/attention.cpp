#include "models/mixers/attention.h"

namespace wedge {

AttentionMixer::AttentionMixer(const ModelConfig& config, std::int64_t /*layer*/, Init& init)
    : num_heads_(config.num_heads),
      qkv_projection_(config.d_model, 3 * config.d_model, init),
      out_projection_(config.d_model, config.d_model, init) {
  add_child("qkv_projection", qkv_projection_);
  add_child("out_projection", out_projection_);
}

Variable AttentionMixer::operator()(const Variable& h) const {
  const Variable qkv = qkv_projection_(h);
  return out_projection_(causal_attention(qkv, num_heads_));
}

void AttentionMixer::validate(const ModelConfig& config) {
  WEDGE_CHECK(config.num_heads >= 1, "model.num_heads: expected at least 1, got {}", config.num_heads);
  WEDGE_CHECK(config.d_model % config.num_heads == 0,
              "model.d_model: expected a multiple of model.num_heads={}, got {}", config.num_heads,
              config.d_model);
}

}  // namespace wedge
