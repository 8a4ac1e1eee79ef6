// linear and linear_gelu against a product, a sum and a GELU of their own.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct LinearCase {
  Shape lead;
  std::int64_t K, N;
  bool bias = true;
  bool with_gelu = false;
  std::uint64_t seed = 8;

  std::string name() const { return with_gelu ? "linear_gelu" : "linear"; }
  std::string sizes() const {
    return fmt::format("lead={} K={} N={} bias={} seed={}", to_string(lead), K, N, bias, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    Shape shape = lead;
    shape.push_back(K);
    std::vector<Tensor> in = {draw.normal(shape), draw.normal({N, K}, 1 / std::sqrt(static_cast<double>(K)))};
    if (bias) in.push_back(draw.normal({N}));
    return in;
  }
  Variable run(const Inputs& in) const {
    const Variable b = bias ? in[2] : Variable();
    return with_gelu ? linear_gelu(in[0], in[1], b) : linear(in[0], in[1], b);
  }
  Variable twin(const Inputs& in) const {
    const Variable u = linear_of(in[0], in[1], bias ? in[2] : Variable());
    return with_gelu ? gelu(u) : u;
  }

  Work forward_work() const {
    const auto T = static_cast<double>(numel(lead)), k = static_cast<double>(K), n = static_cast<double>(N);
    return {2 * T * k * n, 4 * (T * k + k * n + T * n + (bias ? n : 0)), 4 * k * n};
  }
  // Kept for the slope of GELU, which reads the bias too: the product, float32 with any factors.
  Work backward_work() const {
    const auto T = static_cast<double>(numel(lead)), k = static_cast<double>(K), n = static_cast<double>(N);
    const double of_gelu = with_gelu ? 2 * T * n + (bias ? n : 0) : 0;
    return {4 * T * k * n, 4 * (2 * T * k + 2 * k * n + T * n + (bias ? n : 0) + of_gelu), 4 * k * n};
  }
};

inline std::vector<Case> linear_cases() {
  std::vector<LinearCase> ops;
  for (const bool with_gelu : {false, true}) {
    ops.push_back({.lead = {}, .K = 3, .N = 2, .with_gelu = with_gelu});
    ops.push_back({.lead = {1}, .K = 1, .N = 1, .with_gelu = with_gelu});
    ops.push_back({.lead = {2, 3}, .K = 4, .N = 5, .with_gelu = with_gelu});
    ops.push_back({.lead = {2, 3}, .K = 4, .N = 5, .bias = false, .with_gelu = with_gelu});
    ops.push_back({.lead = {5}, .K = 4, .N = 5, .with_gelu = with_gelu});  // x and weight of one shape
    ops.push_back({.lead = {31}, .K = 33, .N = 32, .with_gelu = with_gelu});
    ops.push_back({.lead = {3, 129}, .K = 17, .N = 65, .with_gelu = with_gelu});
  }
  ops.push_back({.lead = {2}, .K = 0, .N = 3});  // an empty sum: the bias is left
  return make_cases(ops);
}

// The products of the founding configuration: d = 256, feed-forward 1024.
inline std::vector<Case> linear_bench() {
  return make_cases<LinearCase>({{.lead = {16, 128}, .K = 256, .N = 768},
                                 {.lead = {16, 128}, .K = 256, .N = 256},
                                 {.lead = {16, 128}, .K = 256, .N = 32},
                                 {.lead = {16, 128}, .K = 1024, .N = 256},
                                 {.lead = {16, 128}, .K = 256, .N = 1024, .with_gelu = true}});
}

}  // namespace wedge::cases
