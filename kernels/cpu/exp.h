// eˣ over runs of elements, right to about a unit in the last place (1.01 in float), up to the ends of the
// type. (Eigen's packets are off by up to 2.5 units in float, and stop before the ends.)
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numbers>
#include <type_traits>

#include "kernels/cpu/vector.h"

namespace wedge::cpu {

// The numbers that exp_of() needs: kHigh + kLow = ln 2, kHigh of so few bits that k kHigh is exact; what is
// added to kMagic is rounded to a whole number, found in its lowest bits; beyond kMost lies infinity; the
// coefficients, highest first, have the least relative error (2^-28 and 2^-64).
template <class T>
struct ExpNumbers;
template <>
struct ExpNumbers<float> {
  using Int = std::int32_t;
  static constexpr float kHigh = 0.693359375f, kLow = -2.12194440e-4f;
  static constexpr float kMagic = 12582912, kMost = 89;
  static constexpr float kCoefficients[] = {1.38145986e-3f, 8.36871688e-3f, 4.16683880e-2f, 1.66665206e-1f,
                                            4.99999934e-1f};
};
template <>
struct ExpNumbers<double> {
  using Int = std::int64_t;
  static constexpr double kHigh = 0.693147180369123816490, kLow = 1.90821492927058770002e-10;
  static constexpr double kMagic = 6755399441055744, kMost = 710;
  static constexpr double kCoefficients[] = {
      2.082662362761640331e-9,  2.5112036766837636659e-8, 2.7557581859337941151e-7, 2.7557234862161097802e-6,
      2.4801586926620575104e-5, 1.9841269896383537154e-4, 1.3888888889115634019e-3, 8.3333333333170343817e-3,
      4.1666666666666094269e-2, 1.666666666666668342e-1,  5.0000000000000000439e-1};
};

// For x = k ln 2 + r with |r| <= ln 2 / 2: e^x = 2^k (1 + r + r² p(r)). Where e^x is below the smallest normal
// number, anything: exp_run() makes it 0.
template <class T>
[[gnu::always_inline]] inline typename Vector<T>::Type exp_of(typename Vector<T>::Type x) {
  using N = ExpNumbers<T>;
  using V = typename Vector<T>::Type;
  using Int = typename N::Int;
  typedef Int Ints __attribute__((vector_size(kVectorBytes)));
  typedef std::make_unsigned_t<Int> Bits __attribute__((vector_size(kVectorBytes)));
  constexpr int kMantissa = std::numeric_limits<T>::digits - 1,
                kBias = std::numeric_limits<T>::max_exponent - 1;
  x = x > N::kMost ? V{} + N::kMost : x;
  const V shifted = x * std::numbers::log2e_v<T> + N::kMagic, k = shifted - N::kMagic;
  const V r = (x - k * N::kHigh) - k * N::kLow;
  V p = V{} + N::kCoefficients[0];
  for (std::size_t i = 1; i < std::size(N::kCoefficients); ++i) p = p * r + N::kCoefficients[i];
  // 2^k in two factors: it may be beyond what one can be. Bits, for far below the range the difference wraps.
  const Ints whole = (Ints)((Bits)shifted - std::bit_cast<std::make_unsigned_t<Int>>(N::kMagic)),
             half = whole >> 1;
  return (p * (r * r) + r + T(1)) * (V)((half + kBias) << kMantissa) *
         (V)((whole - half + kBias) << kMantissa);
}

// y[i] = e^(x[i] - shift), and 0 where that is below the smallest normal number; NaN stays NaN. y may be x.
// A result doesn't depend on where its element stands.
template <class T>
void exp_run(std::int64_t n, const T* x, T shift, T* y) {
  using V = typename Vector<T>::Type;
  constexpr std::int64_t kBlock = kLanes<T>;
  const T lowest = std::log(std::numeric_limits<T>::min());
  const auto block = [&](const T* from, T* to) {
    const V v = lanes(from).v - shift;
    lanes(to).v = v < lowest ? V{} : exp_of<T>(v);
  };
  const std::int64_t whole = n / kBlock * kBlock;
  for (std::int64_t i = 0; i < whole; i += kBlock) block(x + i, y + i);
  if (whole == n) return;
  T end[kBlock] = {};
  std::copy_n(x + whole, n - whole, end);
  block(end, end);
  std::copy_n(end, n - whole, y + whole);
}

// y[i] = 1 / (1 + e^-x[i]), to two and a half units in the last place. (Eigen's logistic() is off by up to
// 7e-4 of a small result.)
template <class T>
void sigmoid_run(std::int64_t n, const T* x, T* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = -x[i];
  exp_run(n, y, T(0), y);
  for (std::int64_t i = 0; i < n; ++i) y[i] = 1 / (1 + y[i]);
}

}  // namespace wedge::cpu
