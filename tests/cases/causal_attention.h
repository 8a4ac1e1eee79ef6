// causal_attention against masked softmax attention that holds the whole L × L matrix.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct CausalAttention {
  std::int64_t B, L, H, D;
  double deviation = 1;  // of q, k and v
  std::uint64_t seed = 3;

  std::string name() const { return "causal_attention"; }
  std::string sizes() const {
    return fmt::format("B={} L={} H={} D={} deviation={} seed={}", B, L, H, D, deviation, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    return {Draw(seed, dtype).normal({B, L, 3 * D}, deviation)};
  }
  Variable run(const Inputs& in) const { return causal_attention(in[0], H); }
  Variable twin(const Inputs& in) const {
    const auto heads = [&](std::int64_t part) {  // [B, H, L, D / H]
      return permute(reshape(slice(in[0], -1, part * D, (part + 1) * D), {B, L, H, D / H}), {0, 2, 1, 3});
    };
    std::vector<double> hidden(static_cast<std::size_t>(L * L), 0.0);
    for (std::int64_t t = 0; t < L; ++t)
      for (std::int64_t s = t + 1; s < L; ++s) hidden[t * L + s] = -1e30;
    const Variable mask = Tensor::from<double>(hidden, {L, L}).to(in[0].dtype());
    const double scale = 1 / std::sqrt(static_cast<double>(D / H));
    const Variable weights = softmax_of(matmul(heads(0), transpose(heads(1), -2, -1)) * scale + mask);
    return reshape(permute(matmul(weights, heads(2)), {0, 2, 1, 3}), {B, L, D});
  }

  Tolerance tolerance() const {
    // A score of size s is off by s units, and so, relatively, is its exponential.
    const double growth = std::max(1.0, deviation * deviation);
    return {1e-12 * growth, 1e-5 * growth, 0};
  }

  // Products over the half of the matrix that is not hidden: two forward, five backward. Kept: lse.
  Work forward_work() const {
    const auto b = static_cast<double>(B), l = static_cast<double>(L), d = static_cast<double>(D);
    return {b * (2 * 2 * d * l * (l + 1) / 2), 4 * b * l * 4 * d};
  }
  Work backward_work() const {
    const auto b = static_cast<double>(B), l = static_cast<double>(L), d = static_cast<double>(D);
    return {b * (5 * 2 * d * l * (l + 1) / 2), 4 * b * l * (8 * d + 2 * static_cast<double>(H))};
  }
};

inline std::vector<Case> causal_attention_cases() {
  return make_cases<CausalAttention>({{.B = 1, .L = 1, .H = 1, .D = 1},
                                      {.B = 1, .L = 4, .H = 1, .D = 3},
                                      {.B = 2, .L = 5, .H = 2, .D = 6},
                                      {.B = 3, .L = 1, .H = 4, .D = 8},
                                      {.B = 1, .L = 31, .H = 1, .D = 5},
                                      {.B = 1, .L = 32, .H = 2, .D = 14},
                                      {.B = 2, .L = 33, .H = 3, .D = 27},
                                      {.B = 1, .L = 65, .H = 2, .D = 32},
                                      {.B = 1, .L = 40, .H = 2, .D = 16, .deviation = 10},  // sharp weights
                                      {.B = 3, .L = 97, .H = 4, .D = 64}});
}

inline std::vector<Case> causal_attention_bench() {
  return make_cases<CausalAttention>({{.B = 16, .L = 128, .H = 4, .D = 256},
                                      {.B = 16, .L = 256, .H = 4, .D = 256},
                                      {.B = 32, .L = 128, .H = 4, .D = 256},
                                      {.B = 32, .L = 256, .H = 4, .D = 256},
                                      {.B = 256, .L = 256, .H = 4, .D = 256}});
}

}  // namespace wedge::cases
