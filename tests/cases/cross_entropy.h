// cross_entropy against a one-hot sum over log-probabilities.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct CrossEntropy {
  Shape lead;
  std::int64_t V;
  double deviation = 1;
  std::uint64_t seed = 10;

  std::string name() const { return "cross_entropy"; }
  std::string sizes() const {
    return fmt::format("lead={} V={} deviation={} seed={}", to_string(lead), V, deviation, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    Shape shape = lead;
    shape.push_back(V);
    return {draw.normal(shape, deviation), draw.ids(lead, V)};
  }
  Variable run(const Inputs& in) const { return cross_entropy(in[0], in[1].value()); }
  Variable twin(const Inputs& in) const { return cross_entropy_of(in[0], in[1].value()); }

  Work forward_work() const {
    const auto T = static_cast<double>(numel(lead)), n = T * static_cast<double>(V);
    return {5 * n, 4 * (n + T + 1)};
  }
  // Kept: log Σ exp of each row. The probabilities are made of that and the logits.
  Work backward_work() const {
    const auto T = static_cast<double>(numel(lead)), n = T * static_cast<double>(V);
    return {4 * n, 4 * (2 * n + 3 * T + 1)};
  }
};

inline std::vector<Case> cross_entropy_cases() {
  return make_cases<CrossEntropy>({{.lead = {}, .V = 4},
                                   {.lead = {2, 3}, .V = 5},
                                   {.lead = {7}, .V = 33, .deviation = 200},
                                   {.lead = {2, 65}, .V = 129}});
}

inline std::vector<Case> cross_entropy_bench() {
  return make_cases<CrossEntropy>({{.lead = {256}, .V = 30522}});
}

}  // namespace wedge::cases
