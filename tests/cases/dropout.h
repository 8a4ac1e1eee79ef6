// dropout and residual_dropout against a mask made one counter at a time.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct DropoutCase {
  Shape shape;
  double rate = 0.1;
  bool residual = false;
  std::uint32_t site = 7;
  std::vector<std::int64_t> counter = {42, 3, 1};  // seed, step, micro-step
  std::uint64_t seed = 7;

  std::string name() const { return residual ? "residual_dropout" : "dropout"; }
  std::string sizes() const {
    return fmt::format("shape={} rate={} site={} counter=[{}] seed={}", to_string(shape), rate, site,
                       fmt::join(counter, ","), seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    std::vector<Tensor> in = {Tensor::from<std::int64_t>(counter, {3}), draw.normal(shape)};
    if (residual) in.push_back(draw.normal(shape));
    return in;
  }
  Variable run(const Inputs& in) const {
    const Dropout drop{rate, site, in[0].value()};
    return residual ? residual_dropout(in[2], in[1], drop) : dropout(in[1], drop);
  }
  Variable twin(const Inputs& in) const {
    const Variable y = dropout_mask_of(shape, rate, site, in[0].value(), in[1].dtype()) * in[1];
    return residual ? in[2] + y : y;
  }

  Work forward_work() const {
    const auto n = static_cast<double>(numel(shape));
    return {(residual ? 2 : 1) * n, 4 * n * (residual ? 3 : 2)};
  }
  Work backward_work() const {
    const auto n = static_cast<double>(numel(shape));
    return {n, 4 * n * (residual ? 3 : 2)};
  }
};

inline std::vector<Case> dropout_cases() {
  std::vector<DropoutCase> ops;
  for (const bool residual : {false, true}) {
    ops.push_back({.shape = {}, .residual = residual});
    ops.push_back({.shape = {2, 3}, .rate = 0.5, .residual = residual});
    ops.push_back({.shape = {31}, .rate = 0.25, .residual = residual, .site = 0, .counter = {0, 0, 0}});
    ops.push_back({.shape = {3, 33}, .rate = 0.999, .residual = residual});
    ops.push_back({.shape = {5, 65},
                   .rate = 0.3,
                   .residual = residual,
                   .site = 0x7fffffff,
                   .counter = {-1, 0xffffffff, 0xffffffff}});
    ops.push_back({.shape = {37, 1031}, .residual = residual});  // several threads, runs that start anywhere
  }
  ops.push_back({.shape = {4, 5}, .rate = 0, .residual = true});
  return make_cases(ops);
}

inline std::vector<Case> dropout_bench() {
  return make_cases<DropoutCase>({{.shape = {16, 128, 256}},
                                  {.shape = {16, 128, 256}, .residual = true},
                                  {.shape = {512, 128, 256}, .residual = true}});
}

}  // namespace wedge::cases
