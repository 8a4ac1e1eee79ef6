#include "models/mixers/grassmann.h"

#include <algorithm>

namespace wedge {

GrassmannMixer::GrassmannMixer(const ModelConfig& config, std::int64_t layer, Init& init)
    : lags_(config.lags_of(layer)),
      reduce_(config.d_model, config.d_low, init),
      expand_(config.d_low * (config.d_low - 1) / 2, config.d_model, init),
      gate_proj_(2 * config.d_model, config.d_model, init) {
  add_child("reduce", reduce_);
  add_child("expand", expand_);
  add_child("gate_proj", gate_proj_);
}

Variable GrassmannMixer::operator()(const Variable& h) const {
  return gate(h, plane_features(h));
}

Variable GrassmannMixer::normalized(const Variable& h, const LayerNorm& norm, const Dropout& dropout) const {
  return gate_layernorm(h, plane_features(h), gate_proj_.weight, gate_proj_.bias, norm.weight, norm.bias,
                        dropout);
}

Variable GrassmannMixer::plane_features(const Variable& h) const {
  return plucker_linear(reduce_(h), expand_.weight, expand_.bias, lags_);
}

namespace {

// The last states, as many as the longest lag reaches back.
struct Window : Mixer::Memory {
  Tensor states;  // [B, n, d_low]; none before the first position
};

}  // namespace

std::unique_ptr<Mixer::Memory> GrassmannMixer::make_memory(std::int64_t /*batch*/,
                                                           std::int64_t /*capacity*/) const {
  return std::make_unique<Window>();
}

Variable GrassmannMixer::extend(const Variable& h, Memory& memory) const {
  Tensor& states = memory_of<Window>(memory).states;
  const Variable z = reduce_(h), seen = states.defined() ? concat({states, z}, 1) : z;
  const std::int64_t L = seen.size(1), kept = std::min(L, *std::ranges::max_element(lags_));
  states = seen.value().slice(1, L - kept, L).clone();
  return gate(h, plucker_linear(seen, expand_.weight, expand_.bias, lags_, L - h.size(1)));
}

Variable GrassmannMixer::gate(const Variable& h, const Variable& g) const {
  return gate_blend(h, g, gate_proj_.weight, gate_proj_.bias);
}

Mixer::Trace GrassmannMixer::trace(const Variable& h) const {
  const Variable z = reduce_(h);
  const Variable g = plucker_linear(z, expand_.weight, expand_.bias, lags_);
  return {{"z", z.value()}, {"alpha", sigmoid(gate_proj_(concat({h, g}, 2))).value()}};
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
