#include "apps/inspection.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <functional>

#include "kernels/plucker_linear.h"

namespace wedge::app {

namespace {

// The states of one layer: blocks of L rows of width r.
struct States {
  std::vector<double> rows;
  std::int64_t L = 0, r = 0;

  std::int64_t count() const { return std::ssize(rows) / r; }
  std::int64_t num_features() const { return r * (r - 1) / 2; }
  std::span<const double> at(std::int64_t position) const {
    return std::span(rows).subspan(static_cast<std::size_t>(position * r), static_cast<std::size_t>(r));
  }
};

// p = z ∧ v; returns ‖p‖.
double wedge_product(std::span<const double> z, std::span<const double> v, std::span<double> p) {
  auto feature = p.begin();
  for (std::size_t i = 0; i < z.size(); ++i)
    for (std::size_t j = i + 1; j < z.size(); ++j) *feature++ = z[i] * v[j] - z[j] * v[i];
  return length_of(p);
}

// Positions [0, count) of which at most kRankRows are taken.
bool is_sampled(std::int64_t index, std::int64_t count) {
  if (count <= kRankRows) return true;
  return index * kRankRows / count != (index + 1) * kRankRows / count;
}

LagInspection inspect_lag(const States& z, std::int64_t lag) {
  LagInspection result;
  result.lag = lag;
  const std::int64_t pairs = z.count() / z.L * std::max<std::int64_t>(0, z.L - lag);
  std::vector<double> norms, sines, sampled, p(static_cast<std::size_t>(z.num_features()));
  result.mean_direction.assign(p.size(), 0);
  std::int64_t index = 0, collapsed = 0;
  for (std::int64_t position = 0; position < z.count(); ++position) {
    if (position % z.L < lag) continue;
    const auto now = z.at(position), then = z.at(position - lag);
    const double norm = wedge_product(now, then, p);
    const double product = length_of(now) * length_of(then);
    norms.push_back(norm);
    sines.push_back(product > 0 ? norm / product : 0);
    collapsed += norm <= kPluckerEps;
    for (std::size_t i = 0; i < p.size(); ++i) {
      p[i] /= std::max(norm, kPluckerEps);
      result.mean_direction[i] += p[i] / static_cast<double>(pairs);
    }
    if (is_sampled(index++, pairs)) sampled.insert(sampled.end(), p.begin(), p.end());
  }
  result.norm = distribution_of(std::move(norms));
  result.sine = distribution_of(std::move(sines));
  if (pairs == 0) {  // nothing is known of this lag
    result.collapsed = result.effective_rank = NAN;
    std::ranges::fill(result.mean_direction, NAN);
    return result;
  }
  result.collapsed = static_cast<double>(collapsed) / static_cast<double>(pairs);
  result.effective_rank = effective_rank(sampled, z.num_features());
  return result;
}

// Of the mean over the lags that each position has; positions without any are left out.
double rank_of_means(const States& z, const std::vector<std::int64_t>& lags) {
  const std::int64_t shortest = *std::ranges::min_element(lags);
  const std::int64_t count = z.count() / z.L * std::max<std::int64_t>(0, z.L - shortest);
  std::vector<double> sampled, p(static_cast<std::size_t>(z.num_features())), mean(p.size());
  std::int64_t index = 0;
  for (std::int64_t position = 0; position < z.count(); ++position) {
    if (position % z.L < shortest || !is_sampled(index++, count)) continue;
    const auto n = std::ranges::count_if(lags, [&](std::int64_t lag) { return lag <= position % z.L; });
    std::ranges::fill(mean, 0);
    for (const std::int64_t lag : lags) {
      if (position % z.L < lag) continue;
      const double norm = wedge_product(z.at(position), z.at(position - lag), p);
      for (std::size_t i = 0; i < p.size(); ++i) mean[i] += p[i] / std::max(norm, kPluckerEps);
    }
    for (double& x : mean) x /= static_cast<double>(n);
    sampled.insert(sampled.end(), mean.begin(), mean.end());
  }
  return count > 0 ? effective_rank(sampled, z.num_features()) : NAN;
}

// Sums over positions of what a head's weights [L, L] say.
void add_head(const double* weights, std::int64_t L, HeadInspection& sums) {
  for (std::int64_t t = 0; t < L; ++t) {
    double entropy = 0, distance = 0;
    for (std::int64_t s = 0; s <= t; ++s) {
      const double w = weights[t * L + s];
      if (w > 0) entropy -= w * std::log(w);
      distance += w * static_cast<double>(t - s);
    }
    sums.entropy += entropy;
    if (t > 0) sums.relative_entropy += entropy / std::log(static_cast<double>(t + 1));
    sums.distance += distance;
  }
}

// Tasks that take so many bytes each, on as many threads as there are and 2 GiB allow.
void run_side_by_side(const std::vector<std::function<void()>>& tasks, std::int64_t bytes_each) {
  const std::int64_t fitting = (std::int64_t{2} << 30) / std::max<std::int64_t>(1, bytes_each);
  const auto threads = static_cast<int>(std::clamp<std::int64_t>(fitting, 1, omp_get_max_threads()));
  std::exception_ptr failure;  // such as std::bad_alloc, which must not leave the loop by itself
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    try {
      tasks[i]();
    } catch (...) {
#pragma omp critical(wedge_inspect_failure)
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

Drift drift_between(const GrassmannInspection& a, const GrassmannInspection& b) {
  // A mean direction of next to no length is rounding; one that is not known is NaN.
  const auto is_direction = [](const LagInspection& lag) { return length_of(lag.mean_direction) > 1e-12; };
  const auto directions = [&](const GrassmannInspection& layer) {
    std::vector<std::vector<double>> result;
    for (const LagInspection& lag : layer.lags)
      if (is_direction(lag)) result.push_back(lag.mean_direction);
    return result;
  };
  Drift drift;
  const auto of_a = directions(a), of_b = directions(b);
  if (!of_a.empty() && !of_b.empty()) drift.principal_angles = principal_angles(of_a, of_b);
  for (std::size_t i = 0; i < std::min(a.lags.size(), b.lags.size()); ++i) {
    const LagInspection &x = a.lags[i], &y = b.lags[i];
    if (x.lag == y.lag && is_direction(x) && is_direction(y))
      drift.by_lag.emplace_back(x.lag, angle_between(x.mean_direction, y.mean_direction));
  }
  return drift;
}

}  // namespace

Inspection inspect(const LanguageModel& model, const std::vector<std::vector<std::int32_t>>& blocks) {
  Inspection result;
  std::vector<States> states;
  std::vector<std::vector<double>> alphas;
  const ModelConfig& config = model.config();
  result.layers.resize(static_cast<std::size_t>(config.num_layers));
  states.resize(result.layers.size());
  alphas.resize(result.layers.size());
  for (const std::vector<std::int32_t>& block : blocks) {
    const std::int64_t L = std::ssize(block);
    result.tokens += L;
    result.context_len = L;
    const Tensor ids = Tensor::from(block, {1, L}).to(model.device());
    std::vector<Mixer::Trace> traces = model.trace(ids);
    for (std::size_t k = 0; k < traces.size(); ++k) {
      for (auto& [name, tensor] : traces[k]) {
        const std::vector<double> values = tensor.to_vector();
        if (name == "z") {
          states[k].L = L;
          states[k].r = tensor.size(2);
          states[k].rows.insert(states[k].rows.end(), values.begin(), values.end());
        } else if (name == "alpha") {
          alphas[k].insert(alphas[k].end(), values.begin(), values.end());
        } else if (name == "weights") {
          std::vector<HeadInspection>& heads = result.layers[k].heads;
          heads.resize(static_cast<std::size_t>(tensor.size(1)));
          for (std::size_t head = 0; head < heads.size(); ++head)
            add_head(values.data() + static_cast<std::int64_t>(head) * L * L, L, heads[head]);
        }
      }
    }
  }
  std::vector<std::function<void()>> of_lags;
  std::int64_t bytes_each = 0;
  const auto tokens = static_cast<double>(result.tokens), count = static_cast<double>(blocks.size());
  for (std::size_t k = 0; k < result.layers.size(); ++k) {
    for (HeadInspection& head : result.layers[k].heads) {
      head.entropy /= tokens;
      head.relative_entropy /= std::max(1.0, tokens - count);
      head.distance /= tokens;
    }
    if (states[k].rows.empty()) continue;
    GrassmannInspection& layer = result.layers[k].grassmann.emplace();
    const std::vector<std::int64_t> lags = config.lags_of(static_cast<std::int64_t>(k));
    layer.alpha = distribution_of(std::move(alphas[k]));
    std::vector<double> norms;
    for (std::int64_t t = 0; t < states[k].count(); ++t) norms.push_back(length_of(states[k].at(t)));
    layer.state_norm = distribution_of(std::move(norms));
    const std::int64_t rows = std::min(kRankRows, states[k].count()), P = states[k].num_features();
    bytes_each = 8 * rows * (P + std::min(rows, P));  // a matrix of samples, and its smaller Gram matrix
    of_lags.push_back([&layer, &z = states[k], lags] { layer.effective_rank = rank_of_means(z, lags); });
    layer.lags.resize(lags.size());
    for (std::size_t i = 0; i < lags.size(); ++i)
      of_lags.push_back(
          [&of_lag = layer.lags[i], &z = states[k], lag = lags[i]] { of_lag = inspect_lag(z, lag); });
  }
  run_side_by_side(of_lags, bytes_each);
  if (is_grassmann(result))
    for (std::size_t k = 0; k + 1 < result.layers.size(); ++k)
      result.drift.push_back(drift_between(*result.layers[k].grassmann, *result.layers[k + 1].grassmann));
  return result;
}

bool is_grassmann(const Inspection& inspection) {
  return !inspection.layers.empty() && inspection.layers.front().grassmann.has_value();
}

}  // namespace wedge::app
