// layernorm and residual_layernorm against mean, variance and scale taken one by one.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct Layernorm {
  Shape lead;
  std::int64_t D;
  double mean = 0, deviation = 1;  // of x
  double eps = 1e-5;
  std::uint64_t seed = 4;

  std::string name() const { return "layernorm"; }
  std::string sizes() const {
    return fmt::format("lead={} D={} mean={} deviation={} eps={} seed={}", to_string(lead), D, mean,
                       deviation, eps, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    Shape shape = lead;
    shape.push_back(D);
    return {draw.normal(shape, deviation, mean), draw.normal({D}), draw.normal({D})};
  }
  Variable run(const Inputs& in) const { return layernorm(in[0], in[1], in[2], eps); }
  Variable twin(const Inputs& in) const { return layernorm_of(in[0], in[1], in[2], eps); }

  Tolerance tolerance() const {
    // x - mean loses the digits that they share. One value a row is its mean, and two are ±1 once normalised:
    // a gradient of zero, or nearly, of terms of size rstd.
    const double growth = std::max(1.0, std::abs(mean) / deviation);
    return {1e-12 * growth, 1e-5 * growth, D == 1 ? 1 / std::sqrt(eps) : D == 2 ? 1 / deviation : 0};
  }

  Work forward_work() const {
    const auto T = static_cast<double>(numel(lead)), d = static_cast<double>(D);
    return {8 * T * d, 4 * (2 * T * d + 2 * d)};
  }
  // Kept: mean and rstd.
  Work backward_work() const {
    const auto T = static_cast<double>(numel(lead)), d = static_cast<double>(D);
    return {14 * T * d, 4 * (3 * T * d + 4 * T + 3 * d)};
  }
};

inline std::vector<Case> layernorm_cases() {
  return make_cases<Layernorm>({{.lead = {}, .D = 5},
                                {.lead = {1}, .D = 1},
                                {.lead = {2, 3}, .D = 4},
                                {.lead = {3}, .D = 2},
                                {.lead = {2, 3}, .D = 7, .mean = 100},
                                {.lead = {4}, .D = 6, .deviation = 1e-3},  // eps counts
                                {.lead = {31}, .D = 33},
                                {.lead = {2, 32}, .D = 31},
                                {.lead = {5, 13}, .D = 32},
                                {.lead = {3, 129}, .D = 67},
                                {.lead = {3}, .D = 260}});
}

inline std::vector<Case> layernorm_bench() {
  return make_cases<Layernorm>({{.lead = {16, 128}, .D = 256}, {.lead = {512, 128}, .D = 256}});
}

struct ResidualLayernorm {
  Shape lead;
  std::int64_t D;
  double rate = 0.1;
  std::uint32_t site = 3;
  std::uint64_t seed = 5;

  std::string name() const { return "residual_layernorm"; }
  std::string sizes() const {
    return fmt::format("lead={} D={} rate={} site={} seed={}", to_string(lead), D, rate, site, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    Shape shape = lead;
    shape.push_back(D);
    return {draw.normal(shape), draw.normal(shape), draw.normal({D}), draw.normal({D}),
            Tensor::from<std::int64_t>({0x123456789abcdef, 17, 2}, {3})};
  }
  Variable run(const Inputs& in) const {
    return residual_layernorm(in[0], in[1], {rate, site, in[4].value()}, in[2], in[3]);
  }
  Variable twin(const Inputs& in) const {
    const Variable mask = dropout_mask_of(in[1].shape(), rate, site, in[4].value(), in[1].dtype());
    return layernorm_of(in[0] + mask * in[1], in[2], in[3], 1e-5);
  }

  Work forward_work() const {
    const auto T = static_cast<double>(numel(lead)), d = static_cast<double>(D);
    return {10 * T * d, 4 * (3 * T * d + 2 * d)};
  }
  // Kept: s, mean and rstd. To make s again, of h and x, would be as many bytes.
  Work backward_work() const {
    const auto T = static_cast<double>(numel(lead)), d = static_cast<double>(D);
    return {15 * T * d, 4 * (5 * T * d + 4 * T + 3 * d)};
  }
};

inline std::vector<Case> residual_layernorm_cases() {
  return make_cases<ResidualLayernorm>({{.lead = {}, .D = 5},
                                        {.lead = {2, 3}, .D = 5, .rate = 0},
                                        {.lead = {2, 3}, .D = 5, .rate = 0.5},
                                        {.lead = {7}, .D = 3, .rate = 0.9},
                                        {.lead = {3, 31}, .D = 33},
                                        {.lead = {65}, .D = 31},
                                        {.lead = {4, 129}, .D = 34},
                                        {.lead = {9, 5}, .D = 132}});
}

inline std::vector<Case> residual_layernorm_bench() {
  return make_cases<ResidualLayernorm>({{.lead = {16, 128}, .D = 256},
                                        {.lead = {16, 128}, .D = 256, .rate = 0},
                                        {.lead = {512, 128}, .D = 256},
                                        {.lead = {512, 128}, .D = 256, .rate = 0}});
}

struct LayernormDropout {
  Shape lead;
  std::int64_t D;
  double rate = 0.1;
  std::uint32_t site = 4;
  std::uint64_t seed = 6;

  std::string name() const { return "layernorm_dropout"; }
  std::string sizes() const {
    return fmt::format("lead={} D={} rate={} site={} seed={}", to_string(lead), D, rate, site, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    Shape shape = lead;
    shape.push_back(D);
    return {draw.normal(shape), draw.normal({D}), draw.normal({D}),
            Tensor::from<std::int64_t>({0x123456789abcdef, 18, 1}, {3})};
  }
  Variable run(const Inputs& in) const {
    return layernorm_dropout(in[0], in[1], in[2], {rate, site, in[3].value()});
  }
  Variable twin(const Inputs& in) const {
    const Variable mask = dropout_mask_of(in[0].shape(), rate, site, in[3].value(), in[0].dtype());
    return mask * layernorm_of(in[0], in[1], in[2], 1e-5);
  }

  Work forward_work() const {
    const auto T = static_cast<double>(numel(lead)), d = static_cast<double>(D);
    return {9 * T * d, 4 * (2 * T * d + 2 * d)};
  }
  // Kept: mean and rstd.
  Work backward_work() const {
    const auto T = static_cast<double>(numel(lead)), d = static_cast<double>(D);
    return {15 * T * d, 4 * (3 * T * d + 4 * T + 3 * d)};
  }
};

// Of the last, D is beyond what a warp keeps in registers; of those before, no multiple of 4, and one.
inline std::vector<Case> layernorm_dropout_cases() {
  return make_cases<LayernormDropout>({{.lead = {}, .D = 5},
                                       {.lead = {2, 3}, .D = 5, .rate = 0},
                                       {.lead = {7}, .D = 3, .rate = 0.9},
                                       {.lead = {4, 129}, .D = 34},
                                       {.lead = {9, 5}, .D = 132},
                                       {.lead = {3, 7}, .D = 1028}});
}

}  // namespace wedge::cases
