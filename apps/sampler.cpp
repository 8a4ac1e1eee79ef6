#include "apps/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/check.h"

namespace wedge::app {

Sampler::Sampler(const SamplerOptions& options)
    : options_(options), rng_(options.seed, RandomStream::sample) {}

std::vector<std::pair<std::int32_t, double>> Sampler::distribution(std::span<const float> logits) const {
  for (const float logit : logits)
    WEDGE_CHECK(std::isfinite(logit), "generate: the model's logits are not finite numbers");
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto before = [&](std::int32_t a, std::int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  if (options_.temperature == 0) return {{*std::min_element(order.begin(), order.end(), before), 1}};

  const auto k = std::min(options_.top_k.value_or(order.size()), static_cast<std::int64_t>(order.size()));
  if (k < std::ssize(order)) {
    std::nth_element(order.begin(), order.begin() + k, order.end(), before);
    order.resize(static_cast<std::size_t>(k));
  }
  // Sorting a whole vocabulary takes longer than a token of a small model.
  if (options_.top_k || options_.top_p) std::sort(order.begin(), order.end(), before);
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<std::pair<std::int32_t, double>> result;
  double sum = 0;
  for (const std::int32_t id : order) {
    const double weight = std::exp((logits[id] - largest) / options_.temperature);
    result.emplace_back(id, weight);
    sum += weight;
  }
  if (options_.top_p) {
    double kept = 0;
    std::size_t count = 0;
    while (count < result.size() && kept < *options_.top_p * sum) kept += result[count++].second;
    result.resize(std::max<std::size_t>(count, 1));
    sum = kept;
  }
  for (auto& [id, weight] : result) weight /= sum;
  return result;
}

std::int32_t Sampler::operator()(std::span<const float> logits) {
  const auto candidates = distribution(logits);
  double left = rng_.uniform();
  for (const auto& [id, probability] : candidates) {
    left -= probability;
    if (left < 0) return id;
  }
  return candidates.back().first;  // rounding: the sum came out below 1
}

}  // namespace wedge::app
