// The Grassmann flow mixer: tokens meet through Plücker coordinates of the planes that pairs of reduced
// states span. arXiv 2512.19428, section 3.2, causal form.
#pragma once

#include "models/layers.h"
#include "models/mixers.h"

namespace wedge {

//   z_t = W_red h_t + b_red
//   p̄_t = mean over lags Δ <= t of (z_t ∧ z_{t-Δ}) / max(‖z_t ∧ z_{t-Δ}‖, 1e-6)
//   g_t = W_plu p̄_t + b_plu
//   α_t = sigmoid(W_gate [h_t ; g_t] + b_gate)
//   mix_t = α_t ∘ h_t + (1 - α_t) ∘ g_t
class GrassmannMixer : public Mixer {
 public:
  GrassmannMixer(const ModelConfig& config, std::int64_t layer, Init& init);
  Variable operator()(const Variable& h) const override;
  // Remembers the reduced states that the largest lag reaches back to, and no more.
  std::unique_ptr<Memory> make_memory(std::int64_t batch, std::int64_t capacity) const override;
  Variable extend(const Variable& h, Memory& memory) const override;
  // "z" [B, L, d_low] and "alpha" [B, L, D], as in the formulas above.
  Trace trace(const Variable& h) const override;
  bool carries_residual() const override { return true; }
  Variable normalized(const Variable& h, const LayerNorm& norm, const Dropout& dropout) const override;
  // d_low >= 2, lags >= 1, and with layerwise_lags one lag a layer.
  static void validate(const ModelConfig& config);

 private:
  Variable plane_features(const Variable& h) const;  // g
  Variable gate(const Variable& h, const Variable& g) const;

  std::vector<std::int64_t> lags_;
  Linear reduce_, expand_, gate_proj_;
};

}  // namespace wedge
