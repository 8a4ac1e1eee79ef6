// eˣ by vectors beside the C library's in long double, over the whole of a type's range.
#include "kernels/cpu/exp.h"

#include <vector>

#include "tests/support/catch.h"

using namespace wedge;

namespace {

// The largest error over [from, to], in units in the last place of the result.
template <class T>
double worst_units(double from, double to, int steps) {
  std::vector<T> x(static_cast<std::size_t>(steps)), y(x.size());
  for (int i = 0; i < steps; ++i)
    x[static_cast<std::size_t>(i)] = static_cast<T>(from + (to - from) * i / steps);
  cpu::exp_run<T>(steps, x.data(), T(0), y.data());
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double exact = std::exp(static_cast<long double>(x[i]));
    const long double unit = std::ldexp(1.0L, std::ilogb(exact) - std::numeric_limits<T>::digits + 1);
    worst = std::max(worst, static_cast<double>(std::abs(y[i] - exact) / unit));
  }
  return worst;
}

}  // namespace

TEST_CASE("exp_run is right to about a unit in the last place", "[kernels]") {
  // The worst of all floats, found by trying every one.
  CHECK(worst_units<float>(-59.9218788146973, -59.92187, 1) < 1.02);
  CHECK(worst_units<float>(-87.3, 88.7, 500000) < 1);
  CHECK(worst_units<float>(-1, 1, 100000) < 1);
  CHECK(worst_units<double>(-708.3, 709.7, 500000) < 1);
  CHECK(worst_units<double>(-1, 1, 100000) < 1);
}

TEST_CASE("exp_run ends at 0 and infinity, in place too, at every place of a run", "[kernels]") {
  const auto check = [&]<class T>(T) {
    const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
    for (const int n : {1, 5, 8, 16, 37}) {
      std::vector<T> x(static_cast<std::size_t>(n));
      const auto all = [&](T value, T shift) {
        std::fill(x.begin(), x.end(), value);
        cpu::exp_run<T>(n, x.data(), shift, x.data());
        for (const T y : x) CHECK((y == x[0] || (std::isnan(y) && std::isnan(x[0]))));
        return x[0];
      };
      CHECK(all(-inf, 0) == 0);
      CHECK(all(std::log(std::numeric_limits<T>::min()) - 1, 0) == 0);  // below the smallest normal number
      CHECK(all(std::numeric_limits<T>::lowest(), 0) == 0);
      CHECK(all(inf, 0) == inf);
      CHECK(all(std::numeric_limits<T>::max(), 0) == inf);
      CHECK(std::isnan(all(nan, 0)));
      CHECK(std::isnan(all(inf, inf)));
      CHECK(all(3, 3) == 1);
      CHECK(all(-0.0, 0) == 1);
    }
  };
  check(float{});
  check(double{});
}

TEST_CASE("exp_run of every power of two", "[kernels]") {
  const auto check = [&]<class T>(T) {
    using Limits = std::numeric_limits<T>;
    for (int exponent = Limits::min_exponent; exponent < Limits::max_exponent; ++exponent) {
      for (const T sign : {T(-1), T(1)}) {
        const T x = std::ldexp(sign, exponent);
        T y = -1;
        cpu::exp_run<T>(1, &x, T(0), &y);
        const T exact = std::exp(x);
        INFO(x << " gives " << y << ", not " << exact);
        CHECK((y == exact || std::abs(y - exact) <= 2 * Limits::epsilon() * exact ||
               (exact < Limits::min() && y == 0)));
      }
    }
  };
  check(float{});
  check(double{});
}

TEST_CASE("sigmoid_run is right to two and a half units in the last place", "[kernels]") {
  const auto units = [](float x) {
    float y = 0;
    cpu::sigmoid_run<float>(1, &x, &y);
    const long double exact = 1 / (1 + std::exp(-static_cast<long double>(x)));
    return static_cast<double>(std::abs(y - exact) / std::ldexp(1.0L, std::ilogb(exact) - 23));
  };
  CHECK(units(-16.635704f) < 2.5);  // the worst of all floats
  for (float x = -87; x < 87; x += 0.0137f) CHECK(units(x) < 2.5);
  CHECK(units(-8.9f) < 2.5);  // where an approximation of polynomials was off by thousands
}
