// gate_blend against the concatenation that it avoids.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct GateBlend {
  Shape lead;
  std::int64_t D;
  bool bias = true;
  std::uint64_t seed = 2;

  std::string name() const { return "gate_blend"; }
  std::string sizes() const {
    return fmt::format("lead={} D={} bias={} seed={}", to_string(lead), D, bias, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    Shape shape = lead;
    shape.push_back(D);
    std::vector<Tensor> in = {draw.normal(shape), draw.normal(shape),
                              draw.normal({D, 2 * D}, 1 / std::sqrt(static_cast<double>(D)))};
    if (bias) in.push_back(draw.normal({D}));
    return in;
  }
  Variable run(const Inputs& in) const { return gate_blend(in[0], in[1], in[2], bias ? in[3] : Variable()); }
  Variable twin(const Inputs& in) const {
    const Variable alpha = sigmoid(linear_of(concat({in[0], in[1]}, -1), in[2], bias ? in[3] : Variable()));
    return alpha * in[0] + (1.0 - alpha) * in[1];
  }

  Work forward_work() const {
    const auto T = static_cast<double>(numel(lead)), d = static_cast<double>(D);
    return {T * d * (4 * d + 8), 4 * (3 * T * d + 2 * d * d + (bias ? d : 0)), 4 * 2 * d * d};
  }
  // Kept: alpha.
  Work backward_work() const {
    const auto T = static_cast<double>(numel(lead)), d = static_cast<double>(D);
    return {T * d * (8 * d + 10), 4 * (7 * T * d + 4 * d * d + (bias ? d : 0)), 4 * 2 * d * d};
  }
};

inline std::vector<Case> gate_blend_cases() {
  return make_cases<GateBlend>({{.lead = {}, .D = 4},
                                {.lead = {1}, .D = 1},
                                {.lead = {2, 3}, .D = 5},
                                {.lead = {2, 3}, .D = 5, .bias = false},
                                {.lead = {3, 31}, .D = 33},
                                {.lead = {65}, .D = 32},
                                {.lead = {4, 129}, .D = 31}});
}

inline std::vector<Case> gate_blend_bench() {
  return make_cases<GateBlend>({{.lead = {16, 128}, .D = 256}});
}

}  // namespace wedge::cases
