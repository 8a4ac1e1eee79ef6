// feed_forward against products, sums and a GELU of their own.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct FeedForwardCase {
  Shape lead;
  std::int64_t K, N, M;
  std::uint64_t seed = 21;

  std::string name() const { return "feed_forward"; }
  std::string sizes() const {
    return fmt::format("lead={} K={} N={} M={} seed={}", to_string(lead), K, N, M, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    Shape shape = lead;
    shape.push_back(K);
    const auto weight = [&](std::int64_t out, std::int64_t in) {
      return draw.normal({out, in}, 1 / std::sqrt(static_cast<double>(in)));
    };
    const Tensor x = draw.normal(shape), up = weight(N, K), a = draw.normal({N}), down = weight(M, N);
    return {x, up, a, down, draw.normal({M})};
  }
  Variable run(const Inputs& in) const { return feed_forward(in[0], in[1], in[2], in[3], in[4]); }
  Variable twin(const Inputs& in) const {
    return linear_of(gelu(linear_of(in[0], in[1], in[2])), in[3], in[4]);
  }

  Work forward_work() const {
    const auto T = static_cast<double>(numel(lead)), k = static_cast<double>(K), n = static_cast<double>(N),
               m = static_cast<double>(M);
    return {2 * T * n * (k + m), 4 * (T * (k + m) + n * (k + m) + n + m), 4 * n * (k + m)};
  }
  // Kept: the first product, of which GELU and its slope are made again.
  Work backward_work() const {
    const auto T = static_cast<double>(numel(lead)), k = static_cast<double>(K), n = static_cast<double>(N),
               m = static_cast<double>(M);
    return {4 * T * n * (k + m), 4 * (T * (2 * k + m) + 2 * T * n + 2 * n * (k + m) + 2 * n + m),
            4 * (2 * T * n + n * (k + m))};
  }
};

inline std::vector<Case> feed_forward_cases() {
  return make_cases<FeedForwardCase>({{.lead = {}, .K = 3, .N = 5, .M = 2},
                                      {.lead = {1}, .K = 1, .N = 1, .M = 1},
                                      {.lead = {2, 3}, .K = 4, .N = 7, .M = 4},
                                      {.lead = {3, 43}, .K = 17, .N = 65, .M = 9}});
}

// The founding configuration's.
inline std::vector<Case> feed_forward_bench() {
  return make_cases<FeedForwardCase>({{.lead = {16, 128}, .K = 256, .N = 1024, .M = 256},
                                      {.lead = {512, 128}, .K = 256, .N = 1024, .M = 256}});
}

}  // namespace wedge::cases
