// softmax and log_softmax against exponentials and sums.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct SoftmaxCase {
  Shape shape;
  bool log = false;
  double deviation = 1, mean = 0;
  std::uint64_t seed = 9;

  std::string name() const { return log ? "log_softmax" : "softmax"; }
  std::string sizes() const {
    return fmt::format("shape={} deviation={} mean={} seed={}", to_string(shape), deviation, mean, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const { return {Draw(seed, dtype).normal(shape, deviation, mean)}; }
  Variable run(const Inputs& in) const { return log ? log_softmax(in[0]) : softmax(in[0]); }
  Variable twin(const Inputs& in) const { return log ? log_softmax_of(in[0]) : softmax_of(in[0]); }

  // With one class nothing depends on x, and next to nothing where one outweighs the others.
  Tolerance tolerance() const { return {1e-12, 1e-5, shape.back() == 1 || deviation > 10 ? 1.0 : 0.0}; }
  // The step grows with x and would be too long.
  bool gradcheck() const { return mean == 0; }

  Work forward_work() const {
    const auto n = static_cast<double>(numel(shape));
    return {5 * n, 4 * 2 * n};
  }
  Work backward_work() const {
    const auto n = static_cast<double>(numel(shape));
    return {4 * n, 4 * 3 * n};
  }
};

inline std::vector<Case> softmax_cases() {
  std::vector<SoftmaxCase> ops;
  for (const bool log : {false, true}) {
    ops.push_back({.shape = {5}, .log = log});
    ops.push_back({.shape = {3, 1}, .log = log});
    ops.push_back({.shape = {2, 3, 4}, .log = log});
    ops.push_back({.shape = {4, 7}, .log = log, .deviation = 300});              // exp would overflow
    ops.push_back({.shape = {4, 7}, .log = log, .deviation = 1, .mean = -1e4});  // exp would underflow
    ops.push_back({.shape = {31, 33}, .log = log});
    ops.push_back({.shape = {5, 13, 515}, .log = log});
  }
  return make_cases(ops);
}

inline std::vector<Case> softmax_bench() {
  return make_cases<SoftmaxCase>({{.shape = {2048, 256}}, {.shape = {256, 30522}, .log = true}});
}

}  // namespace wedge::cases
