// Causal multi-head softmax attention.
#pragma once

#include "models/layers.h"
#include "models/mixers.h"

namespace wedge {

//   [q; k; v] = W_qkv h + b;   mix = W_out · softmax_causal(q kᵀ / sqrt(d / num_heads)) v + b
class AttentionMixer : public Mixer {
 public:
  AttentionMixer(const ModelConfig& config, std::int64_t layer, Init& init);
  Variable operator()(const Variable& h) const override;
  // Remembers every key and value.
  std::unique_ptr<Memory> make_memory(std::int64_t batch, std::int64_t capacity) const override;
  Variable extend(const Variable& h, Memory& memory) const override;
  // "weights" [B, heads, L, L]: row t holds what position t takes of each position.
  Trace trace(const Variable& h) const override;
  // d_model must be a multiple of num_heads.
  static void validate(const ModelConfig& config);

 private:
  std::int64_t num_heads_;
  Linear qkv_projection_, out_projection_;
};

}  // namespace wedge
