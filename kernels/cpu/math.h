// Vectorised functions over short runs of elements, through Eigen's packet math.
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <unsupported/Eigen/SpecialFunctions>

#include "kernels/exec.h"

namespace wedge::cpu {

template <class T>
using ArrayX = Eigen::Array<T, Eigen::Dynamic, 1>;
template <class T>
using ConstArrayMap = Eigen::Map<const ArrayX<T>>;
template <class T>
using ArrayMap = Eigen::Map<ArrayX<T>>;

template <class T>
ConstArrayMap<T> as_array(const T* p, std::int64_t n) {
  return ConstArrayMap<T>(p, n);
}
template <class T>
ArrayMap<T> as_array(T* p, std::int64_t n) {
  return ArrayMap<T>(p, n);
}

// to[i] (+)= value, where that is wanted.
template <class T>
void store(Sink<T> to, std::int64_t i, T value) {
  if (to) to.data[i] = to.add ? to.data[i] + value : value;
}

// to[at .. at + n) (+)= value, an array expression, where that is wanted.
template <class T, class Array>
void store_row(Sink<T> to, std::int64_t at, std::int64_t n, const Array& value) {
  if (!to) return;
  if (to.add)
    as_array(to.data + at, n) += value;
  else
    as_array(to.data + at, n) = value;
}

// Φ(x) = ½ (1 + erf(x/√2)), the Gaussian distribution function, φ its slope: gelu(x) = x Φ(x),
// gelu'(x) = Φ(x) + x φ(x).
template <class Array>
auto gaussian_cdf(const Array& x) {
  using T = typename Array::Scalar;
  return T(0.5) * (T(1) + (x * T(std::numbers::sqrt2 / 2)).erf());
}
// x is limited where φ(x) is 0: Eigen's exponential stops above it.
template <class Array>
auto gelu_slope(const Array& x) {
  using T = typename Array::Scalar;
  return gaussian_cdf(x) + x.max(T(-100)).min(T(100)) * (T(std::numbers::inv_sqrtpi / std::numbers::sqrt2) *
                                                         (T(-0.5) * x.square()).exp());
}

}  // namespace wedge::cpu
