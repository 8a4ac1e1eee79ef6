// linear_cross_entropy against the loss of all logits at once.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct LinearCrossEntropy {
  Shape lead;
  std::int64_t V, D;
  double deviation = 1;  // of x
  std::uint64_t seed = 6;

  std::string name() const { return "linear_cross_entropy"; }
  std::string sizes() const {
    return fmt::format("lead={} V={} D={} deviation={} seed={}", to_string(lead), V, D, deviation, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    Shape shape = lead;
    shape.push_back(D);
    return {draw.normal(shape, deviation), draw.normal({V, D}), draw.ids(lead, V)};
  }
  Variable run(const Inputs& in) const { return linear_cross_entropy(in[0], in[1], in[2].value()); }
  Variable twin(const Inputs& in) const { return cross_entropy_of(linear_of(in[0], in[1]), in[2].value()); }

  Tolerance tolerance() const {
    // A logit of size s is off by s units, and so, relatively, is its probability. With one class the loss
    // is zero and so are its gradients.
    const double growth = std::max(1.0, deviation * std::sqrt(static_cast<double>(D)));
    return {1e-12 * growth, 1e-5 * growth, V == 1 ? 1.0 : 0.0};
  }

  Work forward_work() const {
    const auto T = static_cast<double>(numel(lead)), v = static_cast<double>(V), d = static_cast<double>(D);
    return {T * v * (2 * d + 4), 4 * (T * d + v * d + T + 1), 4 * v * d};
  }
  // Forward makes the gradients where it has a row's logits, which need not leave the chip: they are written.
  Work backward_work() const {
    const auto T = static_cast<double>(numel(lead)), v = static_cast<double>(V), d = static_cast<double>(D);
    return {T * v * 4 * d, 4 * (T * d + v * d + 1)};
  }
};

inline std::vector<Case> linear_cross_entropy_cases() {
  return make_cases<LinearCrossEntropy>(
      {{.lead = {1}, .V = 3, .D = 2},
       {.lead = {}, .V = 5, .D = 4},
       {.lead = {2, 3}, .V = 7, .D = 5},
       {.lead = {6}, .V = 6, .D = 3},  // x and weight of one shape
       {.lead = {4}, .V = 1, .D = 3},
       {.lead = {2, 5}, .V = 9, .D = 4, .deviation = 100},  // certain, or wrong
       {.lead = {31}, .V = 33, .D = 32},
       {.lead = {255}, .V = 67, .D = 9},
       {.lead = {2, 128}, .V = 31, .D = 8},
       {.lead = {17}, .V = 4099, .D = 5},        // rows longer than the runs that are summed
       {.lead = {3, 343}, .V = 259, .D = 17}});  // more than a chunk of rows
}

inline std::vector<Case> linear_cross_entropy_bench() {
  return make_cases<LinearCrossEntropy>({{.lead = {16, 128}, .V = 30522, .D = 256, .deviation = 0.1}});
}

}  // namespace wedge::cases
