// gate_layernorm against a concatenation, a product, a blend, a normalisation and a mask of their own.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct GateLayernorm {
  Shape lead;
  std::int64_t D;
  bool bias = true;
  double rate = 0.1;
  std::uint64_t seed = 22;

  std::string name() const { return "gate_layernorm"; }
  std::string sizes() const {
    return fmt::format("lead={} D={} bias={} rate={} seed={}", to_string(lead), D, bias, rate, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    Shape shape = lead;
    shape.push_back(D);
    std::vector<Tensor> in = {draw.normal(shape),
                              draw.normal(shape),
                              draw.normal({D, 2 * D}, 1 / std::sqrt(static_cast<double>(D))),
                              draw.normal({D}),
                              draw.normal({D}),
                              Tensor::from<std::int64_t>({0x123456789abcdef, 18, 1}, {3})};
    if (bias) in.push_back(draw.normal({D}));
    return in;
  }
  Variable run(const Inputs& in) const {
    return gate_layernorm(in[0], in[1], in[2], bias ? in[6] : Variable(), in[3], in[4],
                          {rate, 5, in[5].value()});
  }
  Variable twin(const Inputs& in) const {
    const Variable alpha = sigmoid(linear_of(concat({in[0], in[1]}, -1), in[2], bias ? in[6] : Variable()));
    const Variable mask = dropout_mask_of(in[0].shape(), rate, 5, in[5].value(), in[0].dtype());
    return mask * layernorm_of(alpha * in[0] + (1.0 - alpha) * in[1], in[3], in[4], 1e-5);
  }

  Work forward_work() const {
    const auto T = static_cast<double>(numel(lead)), d = static_cast<double>(D);
    return {T * d * (4 * d + 17), 4 * (3 * T * d + 2 * d * d + (bias ? 3 : 2) * d), 4 * 2 * d * d};
  }
  // Kept: alpha, mean and rstd.
  Work backward_work() const {
    const auto T = static_cast<double>(numel(lead)), d = static_cast<double>(D);
    return {T * d * (8 * d + 25), 4 * (7 * T * d + 4 * T + 4 * d * d + (bias ? 4 : 3) * d), 4 * 2 * d * d};
  }
};

inline std::vector<Case> gate_layernorm_cases() {
  return make_cases<GateLayernorm>({{.lead = {}, .D = 4},
                                    {.lead = {1}, .D = 1},
                                    {.lead = {2, 3}, .D = 5, .bias = false},
                                    {.lead = {2, 3}, .D = 5, .rate = 0},
                                    {.lead = {3, 31}, .D = 32}});
}

// The founding configuration's.
inline std::vector<Case> gate_layernorm_bench() {
  return make_cases<GateLayernorm>({{.lead = {32, 128}, .D = 256}, {.lead = {512, 128}, .D = 256}});
}

}  // namespace wedge::cases
