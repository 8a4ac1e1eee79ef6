#include "models/mixers/grassmann.h"

namespace wedge {

GrassmannMixer::GrassmannMixer(const ModelConfig& config, std::int64_t layer, Init& init)
    : lags_(config.layerwise_lags ? std::vector{config.lags[layer]} : config.lags),
      reduce_(config.d_model, config.d_low, init),
      expand_(config.d_low * (config.d_low - 1) / 2, config.d_model, init),
      gate_proj_(2 * config.d_model, config.d_model, init) {
  add_child("reduce", reduce_);
  add_child("expand", expand_);
  add_child("gate_proj", gate_proj_);
}

Variable GrassmannMixer::operator()(const Variable& h) const {
  const Variable z = reduce_(h);
  const Variable g = plucker_linear(z, expand_.weight, expand_.bias, lags_);
  return gate_blend(h, g, gate_proj_.weight, gate_proj_.bias);
}

void GrassmannMixer::validate(const ModelConfig& config) {
  WEDGE_CHECK(config.d_low >= 2, "model.d_low: expected at least 2, got {}", config.d_low);
  WEDGE_CHECK(!config.lags.empty(), "model.lags: expected at least one lag, got none");
  for (const std::int64_t lag : config.lags)
    WEDGE_CHECK(lag >= 1, "model.lags: expected lags >= 1, got {}", lag);
  const auto count = static_cast<std::int64_t>(config.lags.size());
  WEDGE_CHECK(!config.layerwise_lags || count == config.num_layers,
              "model.lags: with layerwise_lags expected one lag for each of {} layers, got {}",
              config.num_layers, count);
}

}  // namespace wedge
