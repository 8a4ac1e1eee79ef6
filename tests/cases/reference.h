// Parts that twins are made of.
#pragma once

#include <cmath>
#include <functional>

#include "autograd/ops.h"
#include "autograd/record.h"
#include "tensor/rng.h"

namespace wedge::cases {

inline std::vector<std::int64_t> range_of(std::int64_t n) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) values[i] = i;
  return values;
}

// f(x) element by element with slope df(x), from the C++ library's functions in float64.
inline Variable pointwise(const Variable& x, const std::function<double(double)>& f,
                          const std::function<double(double)>& df) {
  const auto apply = [shape = x.shape()](const std::vector<double>& in, const auto& g) {
    std::vector<double> out(in.size());
    for (std::size_t i = 0; i < in.size(); ++i) out[i] = g(i);
    return Tensor::from<double>(out, shape);
  };
  const std::vector<double> in = x.value().to_vector();
  return make_output("pointwise", apply(in, [&](std::size_t i) { return f(in[i]); }), {x},
                     [in, df, apply](const BackwardContext& ctx) {
                       const std::vector<double> dy = ctx.grad().to_vector();
                       ctx.accumulate(0, apply(in, [&](std::size_t i) { return dy[i] * df(in[i]); }));
                     });
}

// Elements of x by their row-major number, in any order and as often as wanted, in a new shape. The numbers
// come from loops over indices, so strides and views play no part.
inline Variable pick(const Variable& x, const std::vector<std::int64_t>& numbers, const Shape& shape) {
  const std::vector<std::int32_t> ids(numbers.begin(), numbers.end());
  const Tensor at = Tensor::from<std::int32_t>(ids, {static_cast<std::int64_t>(ids.size())});
  return reshape(embedding(reshape(x, {-1, 1}), at), shape);
}

// For every element of `out` in row-major order, calls number_of(index) to learn which element to take.
template <class F>
std::vector<std::int64_t> numbers_of(const Shape& out, F&& number_of) {
  std::vector<std::int64_t> numbers, index(out.size(), 0);
  for (std::int64_t i = 0; i < numel(out); ++i) {
    std::int64_t rest = i;
    for (std::size_t d = out.size(); d-- > 0;) {
      index[d] = rest % out[d];
      rest /= out[d];
    }
    numbers.push_back(number_of(index));
  }
  return numbers;
}

// Row-major number of an index in `shape`.
inline std::int64_t number_in(const Shape& shape, const std::vector<std::int64_t>& index) {
  std::int64_t number = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) number = number * shape[d] + index[d];
  return number;
}

// [..., n] of zeros with a one at ids[...].
inline Variable one_hot(const Tensor& ids, std::int64_t n, DType dtype) {
  Shape shape = ids.shape();
  shape.push_back(n);
  std::vector<double> values(static_cast<std::size_t>(numel(shape)), 0.0);
  const std::vector<double> at = ids.to_vector();
  for (std::size_t r = 0; r < at.size(); ++r)
    values[r * static_cast<std::size_t>(n) + static_cast<std::size_t>(at[r])] = 1;
  return Tensor::from<double>(values, shape).to(dtype);
}

// x Wᵀ + b
inline Variable linear_of(const Variable& x, const Variable& weight, const Variable& bias = {}) {
  Shape shape = x.shape();
  shape.back() = 1;
  const Variable rows = reshape(x, {numel(shape), x.size(-1)});
  shape.back() = weight.size(0);
  const Variable y = reshape(matmul(rows, transpose(weight, 0, 1)), shape);
  return bias.defined() ? y + bias : y;
}

inline Variable softmax_of(const Variable& x) {
  const Variable e = exp(x - max(x, -1, true).detach());
  return e / sum(e, -1, true);
}

inline Variable log_softmax_of(const Variable& x) {
  const Variable shifted = x - max(x, -1, true).detach();
  return shifted - log(sum(exp(shifted), -1, true));
}

inline Variable cross_entropy_of(const Variable& logits, const Tensor& targets) {
  const Variable picked = sum(one_hot(targets, logits.size(-1), logits.dtype()) * log_softmax_of(logits), -1);
  return neg(mean(picked));
}

inline Variable layernorm_of(const Variable& x, const Variable& weight, const Variable& bias, double eps) {
  const Variable centred = x - mean(x, -1, true);
  return centred / sqrt(mean(square(centred), -1, true) + eps) * weight + bias;
}

// The masks of a dropout one element at a time, straight from kernels/dropout.h: word i mod 4 of philox(seed;
// i / 4, site | 2³¹, micro_step, step) is kept when at least rate · 2³², as 1 / (1 - rate).
inline Variable dropout_mask_of(const Shape& shape, double rate, std::uint32_t site, const Tensor& counter,
                                DType dtype) {
  const std::int64_t* c = counter.data<std::int64_t>();
  std::vector<double> mask(static_cast<std::size_t>(numel(shape)), 1.0);
  if (rate > 0)
    for (std::size_t i = 0; i < mask.size(); ++i) {
      const Philox4 words =
          philox(static_cast<std::uint64_t>(c[0]), static_cast<std::uint32_t>(i / 4), site | 0x80000000u,
                 static_cast<std::uint32_t>(c[2]), static_cast<std::uint32_t>(c[1]));
      mask[i] = words.v[i % 4] >= std::floor(rate * 0x1p32) ? 1 / (1 - rate) : 0.0;
    }
  return Tensor::from<double>(mask, shape).to(dtype);
}

}  // namespace wedge::cases
