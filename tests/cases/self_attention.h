// self_attention against products, causal_attention's twin and sums of their own.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/causal_attention.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct SelfAttention {
  std::int64_t B, L, K, H, D, M;
  std::uint64_t seed = 23;

  std::string name() const { return "self_attention"; }
  std::string sizes() const {
    return fmt::format("B={} L={} K={} H={} D={} M={} seed={}", B, L, K, H, D, M, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    const auto weight = [&](std::int64_t out, std::int64_t in) {
      return draw.normal({out, in}, 1 / std::sqrt(static_cast<double>(in)));
    };
    const Tensor x = draw.normal({B, L, K}), qkv = weight(3 * D, K), a = draw.normal({3 * D}),
                 out = weight(M, D);
    return {x, qkv, a, out, draw.normal({M})};
  }
  Variable run(const Inputs& in) const { return self_attention(in[0], in[1], in[2], in[3], in[4], H); }
  Variable twin(const Inputs& in) const {
    const Inputs qkv = {linear_of(in[0], in[1], in[2])};
    return linear_of(CausalAttention{.B = B, .L = L, .H = H, .D = D}.twin(qkv), in[3], in[4]);
  }

  Work forward_work() const {
    const auto b = static_cast<double>(B), l = static_cast<double>(L), k = static_cast<double>(K),
               d = static_cast<double>(D), m = static_cast<double>(M);
    return {b * l * (2 * d * (3 * k + m) + 2 * d * (l + 1)),
            4 * (b * l * (k + m) + d * (3 * k + m) + 3 * d + m), 4 * d * (3 * k + m)};
  }
  // Kept: q, k, v, what the heads make of them, and lse.
  Work backward_work() const {
    const auto b = static_cast<double>(B), l = static_cast<double>(L), k = static_cast<double>(K),
               d = static_cast<double>(D), m = static_cast<double>(M);
    const double kept = 2 * b * l * 4 * d, lse = 2 * b * l * static_cast<double>(H);
    return {b * l * (4 * d * (3 * k + m) + 5 * d * (l + 1)),
            4 * (b * l * (2 * k + m) + kept + lse + 2 * d * (3 * k + m) + 3 * d + m),
            4 * (kept + d * (3 * k + m))};
  }
};

inline std::vector<Case> self_attention_cases() {
  return make_cases<SelfAttention>({{.B = 1, .L = 1, .K = 1, .H = 1, .D = 1, .M = 1},
                                    {.B = 2, .L = 5, .K = 3, .H = 2, .D = 6, .M = 4},
                                    {.B = 2, .L = 33, .K = 8, .H = 1, .D = 8, .M = 8}});
}

// The founding configuration's.
inline std::vector<Case> self_attention_bench() {
  return make_cases<SelfAttention>({{.B = 32, .L = 128, .K = 256, .H = 4, .D = 256, .M = 256},
                                    {.B = 512, .L = 128, .K = 256, .H = 4, .D = 256, .M = 256}});
}

}  // namespace wedge::cases
