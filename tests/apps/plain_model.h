// Models in plain float64 loops over their own weights, for what wedge inspect shows.
#pragma once

#include <cmath>
#include <map>
#include <string>

#include "models/language_model.h"
#include "tests/apps/singular_values.h"

namespace wedge::test {

// A post-norm model written out from its equations, position by position.
struct Plain {
  explicit Plain(const LanguageModel& model) : config(model.config()) {
    for (const auto& [name, p] : model.named_parameters()) weights[name] = p.value().to_vector();
  }

  Row linear(const Row& x, const std::string& name) const {
    const Row &W = weights.at(name + ".weight"), &b = weights.at(name + ".bias");
    Row y(b);
    for (std::size_t o = 0; o < y.size(); ++o)
      for (std::size_t i = 0; i < x.size(); ++i) y[o] += W[o * x.size() + i] * x[i];
    return y;
  }
  Row norm(const Row& x, const std::string& name) const {
    double mean = 0, variance = 0;
    for (const double v : x) mean += v / static_cast<double>(x.size());
    for (const double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
    Row y(x);
    for (std::size_t i = 0; i < x.size(); ++i)
      y[i] = (x[i] - mean) / std::sqrt(variance + 1e-5) * weights.at(name + ".weight")[i] +
             weights.at(name + ".bias")[i];
    return y;
  }
  static Row add(Row a, const Row& b) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }
  static Row wedge(const Row& z, const Row& v) {
    Row p;
    for (std::size_t i = 0; i < z.size(); ++i)
      for (std::size_t j = i + 1; j < z.size(); ++j) p.push_back(z[i] * v[j] - z[j] * v[i]);
    return p;
  }
  static double length(const Row& x) {
    double sum = 0;
    for (const double v : x) sum += v * v;
    return std::sqrt(sum);
  }

  // Fills what a layer has inside, and returns the states after the last one.
  void run(const std::vector<std::int32_t>& ids) {
    const auto d = static_cast<std::size_t>(config.d_model);
    Rows h;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      Row row(d);
      for (std::size_t i = 0; i < d; ++i)
        row[i] = weights["token_embedding.weight"][static_cast<std::size_t>(ids[t]) * d + i] +
                 weights["position_embedding.weight"][t * d + i];
      h.push_back(row);
    }
    for (std::int64_t k = 0; k < config.num_layers; ++k) {
      const std::string block = "transformer_blocks." + std::to_string(k) + ".";
      const Rows mixed =
          config.tensor_lifting_strategy == "grassmann" ? grassmann(h, block) : attention(h, block);
      for (std::size_t t = 0; t < h.size(); ++t) {
        h[t] = norm(config.tensor_lifting_strategy == "grassmann" ? mixed[t] : add(h[t], mixed[t]),
                    block + "attention_norm");
        Row up = linear(h[t], block + "ffn.layers.0");
        for (double& x : up) x = 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
        h[t] = norm(add(h[t], linear(up, block + "ffn.layers.2")), block + "ffn_norm");
      }
    }
  }

  Rows grassmann(const Rows& h, const std::string& block) {
    Rows z, mixed, alphas;
    for (const Row& row : h) z.push_back(linear(row, block + "attention.reduce"));
    for (std::size_t t = 0; t < h.size(); ++t) {
      Row mean(static_cast<std::size_t>(config.d_low * (config.d_low - 1) / 2));
      double n = 0;
      for (const std::int64_t lag : config.lags) n += lag <= static_cast<std::int64_t>(t);
      for (const std::int64_t lag : config.lags) {
        if (lag > static_cast<std::int64_t>(t)) continue;
        Row p = wedge(z[t], z[t - static_cast<std::size_t>(lag)]);
        const double norm = std::max(length(p), 1e-6);
        for (std::size_t i = 0; i < p.size(); ++i) mean[i] += p[i] / norm / n;
      }
      const Row g = linear(mean, block + "attention.expand");
      Row both(h[t]);
      both.insert(both.end(), g.begin(), g.end());
      Row alpha = linear(both, block + "attention.gate_proj"), mix(g);
      for (std::size_t i = 0; i < alpha.size(); ++i) {
        alpha[i] = 1 / (1 + std::exp(-alpha[i]));
        mix[i] = alpha[i] * h[t][i] + (1 - alpha[i]) * g[i];
      }
      alphas.push_back(alpha);
      mixed.push_back(mix);
    }
    states.push_back(z);
    gates.push_back(alphas);
    return mixed;
  }

  Rows attention(const Rows& h, const std::string& block) {
    const auto heads = static_cast<std::size_t>(config.num_heads);
    const std::size_t d = h[0].size(), width = d / heads;
    Rows qkv, mixed(h.size(), Row(d));
    for (const Row& row : h) qkv.push_back(linear(row, block + "attention.qkv_projection"));
    std::vector<Rows> layer(heads);
    for (std::size_t head = 0; head < heads; ++head)
      for (std::size_t t = 0; t < h.size(); ++t) {
        Row w(t + 1);
        double sum = 0;
        for (std::size_t s = 0; s <= t; ++s) {
          double score = 0;
          for (std::size_t i = 0; i < width; ++i)
            score += qkv[t][head * width + i] * qkv[s][d + head * width + i];
          sum += w[s] = std::exp(score / std::sqrt(static_cast<double>(width)));
        }
        for (std::size_t s = 0; s <= t; ++s) {
          w[s] /= sum;
          for (std::size_t i = 0; i < width; ++i)
            mixed[t][head * width + i] += w[s] * qkv[s][2 * d + head * width + i];
        }
        layer[head].push_back(w);
      }
    attentions.push_back(layer);
    for (Row& row : mixed) row = linear(row, block + "attention.out_projection");
    return mixed;
  }

  ModelConfig config;
  std::map<std::string, Row> weights;
  std::vector<Rows> states, gates;            // by layer
  std::vector<std::vector<Rows>> attentions;  // by layer and head: row t has t + 1 weights
};

}  // namespace wedge::test
