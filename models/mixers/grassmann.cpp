#include "models/mixers/grassmann.h"

#include <algorithm>

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

// The state of position t is in row t mod size.
struct Ring : Mixer::Memory {
  Tensor states;  // [B, size, d_low]
  std::int64_t length = 0;

  std::int64_t size() const { return states.size(1); }
  Tensor at(std::int64_t position) const { return states.slice(1, position % size(), position % size() + 1); }
};

}  // namespace

std::unique_ptr<Mixer::Memory> GrassmannMixer::make_memory(std::int64_t batch,
                                                           std::int64_t /*capacity*/) const {
  const Tensor weight = reduce_.weight.value();
  auto ring = std::make_unique<Ring>();
  ring->states = Tensor::empty({batch, 1 + *std::ranges::max_element(lags_), weight.size(0)}, weight.dtype(),
                               weight.device());
  return ring;
}

Variable GrassmannMixer::extend(const Variable& h, Memory& memory) const {
  auto& ring = static_cast<Ring&>(memory);
  const std::int64_t B = h.size(0), n = h.size(1), begin = ring.length;
  const Variable z = reduce_(h);
  for (std::int64_t i = std::max<std::int64_t>(0, n - ring.size()); i < n; ++i)
    ring.at(begin + i).copy_from(z.value().slice(1, i, i + 1));
  ring.length += n;
  if (begin == 0) return gate(h, plucker_linear(z, expand_.weight, expand_.bias, lags_));

  // Each lag within reach is a sequence of two states, whose second position looks back by one; g is the mean
  // of theirs, since it is linear in p̄.
  std::vector<Variable> pairs;
  for (const std::int64_t lag : lags_)
    if (lag <= begin) pairs.push_back(concat({ring.at(begin - lag), z}, 1));
  if (pairs.empty()) pairs.push_back(concat({z, z}, 1));  // z ∧ z = 0
  const auto count = static_cast<std::int64_t>(pairs.size());
  const Variable of_pairs = plucker_linear(concat(pairs, 0), expand_.weight, expand_.bias, {1});
  const Variable g = mean(reshape(slice(of_pairs, 1, 1, 2), {count, B, 1, h.size(2)}), 0);
  return gate(h, g);
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
