// Vectorised functions over short runs of elements, through Eigen's packet math.
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <unsupported/Eigen/SpecialFunctions>

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

// y = eˣ, and exactly 0 below the smallest normal number, where Eigen's packets would stop at its
// neighbourhood: e^-inf must be 0. NaN stays NaN. A second pass, since Eigen's select has no packets; y is
// not x.
template <class Array, class Result>
void exp_to_zero(const Array& x, Result&& y) {
  using T = typename Array::Scalar;
  const T lowest = std::log(std::numeric_limits<T>::min());
  y = x.exp();
#pragma omp simd
  for (Eigen::Index i = 0; i < y.size(); ++i) y[i] = x.coeff(i) < lowest ? T(0) : y[i];
}

// 1 / (1 + e⁻ˣ). Eigen's logistic() is off by up to 7e-4 of the result where that is small.
template <class Array>
auto sigmoid(const Array& x) {
  using T = typename Array::Scalar;
  return (T(1) + (-x).exp()).inverse();
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
