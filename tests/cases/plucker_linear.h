// plucker_linear against the paper's definition: one Plücker vector for each lag, normalised, averaged.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct PluckerLinear {
  // What z is made of besides independent normal numbers.
  enum class Geometry {
    generic,
    tiny,           // so short that every norm is below 1e-6
    degenerate,     // rows of zeros, repeated rows, and rows that are multiples of the one before
    near_parallel,  // each row is the one before plus a thousandth: norms are small and above 1e-6
  };

  std::int64_t B, L, R, D;
  std::vector<std::int64_t> lags;
  bool bias = true;
  Geometry geometry = Geometry::generic;
  std::int64_t begin = 0;
  std::uint64_t seed = 1;

  std::string name() const { return "plucker_linear"; }
  std::string sizes() const {
    const char* names[] = {"generic", "tiny", "degenerate", "near_parallel"};
    return fmt::format("B={} L={} R={} D={} lags=[{}] bias={} z={} begin={} seed={}", B, L, R, D,
                       fmt::join(lags, ","), bias, names[static_cast<int>(geometry)], begin, seed);
  }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, DType::f64);
    Tensor z = draw.normal({B, L, R}, geometry == Geometry::tiny ? 1e-4 : 1.0);
    std::vector<Tensor> in = {z, draw.normal({D, R * (R - 1) / 2}, 0.5)};
    if (bias) in.push_back(draw.normal({D}));
    for (std::int64_t t = 1; t < L; ++t) {
      Tensor row = z.slice(1, t, t + 1);
      const Variable before = z.slice(1, t - 1, t);
      if (geometry == Geometry::near_parallel) row.copy_from((before + 1e-3 * Variable(row)).value());
      if (geometry != Geometry::degenerate) continue;
      if (t % 5 == 1) row.fill(0);
      if (t % 5 == 3) row.copy_from(before.value());
      if (t % 5 == 4) row.copy_from((before * -2.0).value());
    }
    for (Tensor& t : in) t = t.to(dtype);
    return in;
  }

  Variable run(const Inputs& in) const {
    return plucker_linear(in[0], in[1], bias ? in[2] : Variable(), lags, begin);
  }

  Variable twin(const Inputs& in) const {
    const Variable& z = in[0];
    const DType dtype = z.dtype();
    const std::int64_t P = R * (R - 1) / 2;
    // z · first is z_i and z · second is z_j for the pairs i < j, i outer.
    std::vector<std::int32_t> i_of, j_of;
    for (std::int32_t i = 0; i < R; ++i)
      for (std::int32_t j = i + 1; j < R; ++j) {
        i_of.push_back(i);
        j_of.push_back(j);
      }
    const Variable first = transpose(one_hot(Tensor::from<std::int32_t>(i_of, {P}), R, dtype), 0, 1);
    const Variable second = transpose(one_hot(Tensor::from<std::int32_t>(j_of, {P}), R, dtype), 0, 1);

    Variable total = Tensor::zeros({B, L, P}, dtype);
    Tensor weight = Tensor::zeros({L, 1}, dtype);  // 1 / number of lags <= t
    for (const std::int64_t lag : lags) {
      if (lag >= L) continue;
      const Variable now = slice(z, 1, lag, L), then = slice(z, 1, 0, L - lag);
      const Variable p =
          matmul(now, first) * matmul(then, second) - matmul(now, second) * matmul(then, first);
      // max(‖p‖, 1e-6) as sqrt(max(‖p‖², 1e-12)): the root's slope at 0 is infinite.
      const Variable limit = Tensor::full({B, L - lag, 1}, 1e-12, dtype);
      const Variable norm = sqrt(max(concat({sum(square(p), -1, true), limit}, -1), -1, true));
      total = total + concat({Tensor::zeros({B, lag, P}, dtype), p / norm}, 1);
      Tensor later = weight.slice(0, lag, L);
      later.copy_from((Variable(later) + 1.0).value());
    }
    for (std::int64_t t = 0; t < L; ++t) {
      Tensor count = weight.slice(0, t, t + 1);
      count.fill(1.0 / std::max(1.0, count.item()));
    }
    return slice(linear_of(total * weight, in[1], bias ? in[2] : Variable()), 1, begin, L);
  }

  Tolerance tolerance() const {
    // One Plücker coordinate of unit length is ±1: its gradient with regard to z is zero, but for what is
    // left of the twin's terms.
    if (R == 2) return {1e-12, 1e-5, 10};
    // w = v - (ẑ·v) ẑ loses the digits that v and z share: a thousandfold of them where they are near
    // parallel.
    if (geometry == Geometry::near_parallel) return {1e-10, 1e-3, 0};
    return {};
  }
  // A step of 1e-6 away from N = 0 lands on the other side of the threshold.
  bool gradcheck() const { return geometry != Geometry::degenerate; }

  // Features, product and, for each lag, three passes over R. The weight is read as float32 with any factors.
  Work forward_work() const {
    const auto T = static_cast<double>(B * L), P = static_cast<double>(R * (R - 1) / 2),
               r = static_cast<double>(R), d = static_cast<double>(D);
    const double lag_flops = 8 * r * static_cast<double>(lags.size());
    return {T * (2 * P * d + 3 * P + lag_flops),
            4 * (T * r + P * d + static_cast<double>(B * (L - begin)) * d + (bias ? d : 0))};
  }
  // Two products, the features again, two products with G, and the lags seen from both ends. Kept: s.
  Work backward_work() const {
    const auto T = static_cast<double>(B * L), P = static_cast<double>(R * (R - 1) / 2),
               r = static_cast<double>(R), d = static_cast<double>(D);
    const double lag_flops = 32 * r * static_cast<double>(lags.size());
    return {T * (4 * P * d + 11 * P + lag_flops),
            4 * (4 * T * r + 2 * P * d + static_cast<double>(B * (L - begin)) * d + (bias ? d : 0))};
  }
};

inline std::vector<Case> plucker_linear_cases() {
  using enum PluckerLinear::Geometry;
  return make_cases<PluckerLinear>({
      {.B = 1, .L = 5, .R = 3, .D = 2, .lags = {1}},
      {.B = 2, .L = 9, .R = 4, .D = 5, .lags = {1, 2, 4}},
      {.B = 2, .L = 9, .R = 4, .D = 5, .lags = {1, 2, 4}, .bias = false},
      {.B = 1, .L = 1, .R = 4, .D = 3, .lags = {1, 2}},           // no lag ever applies
      {.B = 2, .L = 4, .R = 5, .D = 3, .lags = {4, 7}},           // all lags >= L
      {.B = 1, .L = 6, .R = 3, .D = 3, .lags = {5}},              // one pair in all
      {.B = 1, .L = 6, .R = 5, .D = 3, .lags = {}},               // no lags
      {.B = 2, .L = 7, .R = 5, .D = 3, .lags = {3, 1, 3, 3, 9}},  // repeated, unordered, one too long
      {.B = 1, .L = 6, .R = 2, .D = 4, .lags = {1, 2}},           // p̂ is ±1
      {.B = 3, .L = 40, .R = 2, .D = 5, .lags = {1, 3}},
      {.B = 2, .L = 16, .R = 2, .D = 3, .lags = {1, 2, 5}, .geometry = degenerate},
      {.B = 2, .L = 12, .R = 2, .D = 3, .lags = {1, 2, 5}, .geometry = near_parallel},
      {.B = 2, .L = 8, .R = 2, .D = 3, .lags = {1, 2, 5}, .geometry = tiny},
      {.B = 2, .L = 8, .R = 4, .D = 3, .lags = {1, 2, 5}, .geometry = tiny},
      {.B = 2, .L = 16, .R = 4, .D = 3, .lags = {1, 2, 5}, .geometry = degenerate},
      {.B = 2, .L = 12, .R = 7, .D = 9, .lags = {1, 2, 5}, .geometry = near_parallel},
      {.B = 3, .L = 31, .R = 9, .D = 33, .lags = {1, 2, 4, 8, 12, 16}},
      {.B = 2, .L = 33, .R = 15, .D = 31, .lags = {1, 2, 4, 8, 12, 16}},
      {.B = 1, .L = 32, .R = 32, .D = 32, .lags = {1, 2, 4, 8, 12, 16}, .geometry = degenerate},
      {.B = 2, .L = 9, .R = 4, .D = 5, .lags = {1, 2, 4}, .begin = 6},
      {.B = 3, .L = 4, .R = 5, .D = 3, .lags = {1, 2}, .bias = false, .begin = 4},  // no position
      {.B = 9, .L = 128, .R = 8, .D = 12, .lags = {1, 3, 16, 127}},                 // three chunks of rows
      {.B = 1, .L = 1030, .R = 5, .D = 7, .lags = {1, 512, 513}},  // chunks that end inside a sequence
  });
}

inline std::vector<Case> plucker_linear_bench() {
  return make_cases<PluckerLinear>({{.B = 16, .L = 128, .R = 32, .D = 256, .lags = {1, 2, 4, 8, 12, 16}},
                                    {.B = 16, .L = 128, .R = 32, .D = 256, .lags = {1}}});
}

}  // namespace wedge::cases
