#include "kernels/elementwise.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/exp.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"
#include "kernels/strides.h"

namespace wedge::cpu {
namespace {

// Runs of this many elements keep Eigen's temporaries in L1.
constexpr std::int64_t kRun = 1024;

template <class Body>
void for_runs(std::int64_t n, Body&& body) {
  parallel_for(n, kElementGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; i += kRun) body(i, std::min(kRun, end - i));
  });
}

// y = f(x) by Eigen's packets, which at the ends of an array would take scalar functions instead: a result
// does not depend on where its element stands.
template <class T, class F>
void by_packets(ConstArrayMap<T> x, ArrayMap<T> y, F f) {
  using Whole = Eigen::Map<ArrayX<T>, Eigen::Aligned64>;
  const std::int64_t n = x.size(), padded = round_up(n, 64);
  if (n == padded && reinterpret_cast<std::uintptr_t>(y.data()) % 64 == 0) {
    Whole(y.data(), n) = f(x);
    return;
  }
  alignas(64) T in[kRun], out[kRun];
  std::copy_n(x.data(), n, in);
  std::fill(in + n, in + padded, T(1));
  Whole(out, padded) = f(Whole(in, padded));
  std::copy_n(out, n, y.data());
}

// Where they are off: y = f(x) for the x that are outside of [low, high].
template <class T, class F>
void mend(ConstArrayMap<T> x, ArrayMap<T> y, T low, T high, F f) {
  const auto is_outside = [low, high](T v) { return v < low || v > high; };
  constexpr std::int64_t kLane = kLanes<T>;
  decltype(lanes(x.data()).v < low) any = {};
  std::int64_t i = 0;
  for (; i + kLane <= x.size(); i += kLane) {
    const auto v = lanes(x.data() + i).v;
    any |= (v < low) | (v > high);
  }
  bool none = true;
  for (int lane = 0; lane < kLane; ++lane) none &= any[lane] == 0;
  for (; i < x.size(); ++i) none &= !is_outside(x[i]);
  if (none) return;
  for (i = 0; i < x.size(); ++i)
    if (is_outside(x[i])) y[i] = f(x[i]);
}

template <class T>
void unary_run(UnaryOp op, ConstArrayMap<T> x, ArrayMap<T> y) {
  constexpr T kLargest = std::numeric_limits<T>::max(), kNormal = std::numeric_limits<T>::min();
  // exp_run() stops at the smallest normal number.
  const T lowest = std::log(kNormal);
  const auto exact_exp = [lowest](T v) { return v < 2 * lowest ? T(0) : std::exp(v); };
  switch (op) {
    case UnaryOp::neg:
      y = -x;
      break;
    case UnaryOp::exp:
      exp_run(x.size(), x.data(), T(0), y.data());
      mend(x, y, lowest, kLargest, exact_exp);
      break;
    case UnaryOp::log:
      by_packets(x, y, [](const auto& v) { return v.log(); });
      mend(x, y, kNormal, kLargest, [](T v) { return std::log(v); });
      break;
    case UnaryOp::sqrt:
      // Eigen's packets are off at infinity, at subnormal numbers, and by a last place elsewhere.
      for (std::int64_t i = 0; i < x.size(); ++i) y[i] = std::sqrt(x[i]);
      break;
    case UnaryOp::square:
      y = x.square();
      break;
    case UnaryOp::tanh:
      by_packets(x, y, [](const auto& v) { return v.tanh(); });
      break;
    case UnaryOp::sigmoid:
      sigmoid_run(x.size(), x.data(), y.data());
      mend(x, y, lowest, kLargest, [&](T v) { return v < lowest ? exact_exp(v) : 1 / (1 + std::exp(-v)); });
      break;
    case UnaryOp::relu:
      y = x.max(T(0));
      break;
    case UnaryOp::gelu:
      by_packets(x, y, [](const auto& v) { return v * gaussian_cdf(v); });
      break;
  }
}

template <class T>
void unary_slope(UnaryOp op, ConstArrayMap<T> x, ConstArrayMap<T> y, ArrayX<T>& slope) {
  switch (op) {
    case UnaryOp::neg:
      slope.setConstant(x.size(), T(-1));
      break;
    case UnaryOp::exp:
      slope = y;
      break;
    case UnaryOp::log:
      slope = x.inverse();
      break;
    case UnaryOp::sqrt:
      slope = T(0.5) * y.inverse();
      break;
    case UnaryOp::square:
      slope = T(2) * x;
      break;
    case UnaryOp::tanh:
      slope = T(1) - y.square();
      break;
    case UnaryOp::sigmoid:
      slope = y * (T(1) - y);
      break;
    case UnaryOp::relu:
      slope = (x <= T(0)).select(T(0), ArrayX<T>::Ones(x.size()));  // of NaN 1
      break;
    case UnaryOp::gelu:
      slope = gelu_slope(x);
      break;
  }
}

// One row: y[i] = f(a[i·sa], b[i·sb]); the strides that matter get loops that vectorise.
template <class T, class F>
void binary_row(std::int64_t n, const T* a, std::int64_t sa, const T* b, std::int64_t sb, T* y, F f) {
  if (sa == 1 && sb == 1) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = f(a[i], b[i]);
  } else if (sa == 1 && sb == 0) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = f(a[i], b[0]);
  } else if (sa == 0 && sb == 1) {
    for (std::int64_t i = 0; i < n; ++i) y[i] = f(a[0], b[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) y[i] = f(a[i * sa], b[i * sb]);
  }
}

template <class T, class F>
void binary_with(const Binary<T>& given, F f) {
  const Binary<T> args = collapse(given);
  const int last = args.rank - 1;
  const std::int64_t width = args.sizes[last], sa = args.a_strides[last], sb = args.b_strides[last];
  std::int64_t rows = 1;
  for (int d = 0; d < last; ++d) rows *= args.sizes[d];
  if (rows == 1) {
    parallel_for(width, kElementGrain, [&](std::int64_t begin, std::int64_t end) {
      binary_row(end - begin, args.a + begin * sa, sa, args.b + begin * sb, sb, args.y + begin, f);
    });
    return;
  }
  parallel_rows(rows, width, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      std::int64_t rest = row, a = 0, b = 0;
      for (int d = last - 1; d >= 0; --d) {
        const std::int64_t index = rest % args.sizes[d];
        rest /= args.sizes[d];
        a += index * args.a_strides[d];
        b += index * args.b_strides[d];
      }
      binary_row(width, args.a + a, sa, args.b + b, sb, args.y + row * width, f);
    }
  });
}

}  // namespace

template <class T>
void unary_forward(const Exec&, const UnaryForward<T>& args) {
  for_runs(args.n, [&](std::int64_t i, std::int64_t n) {
    unary_run<T>(args.op, as_array(args.x + i, n), as_array(args.y + i, n));
  });
}

template <class T>
void unary_backward(const Exec&, const UnaryBackward<T>& args) {
  for_runs(args.n, [&](std::int64_t i, std::int64_t n) {
    ArrayX<T> slope;
    unary_slope<T>(args.op, as_array(args.x + i, n), as_array(args.y + i, n), slope);
    store_row(args.dx, i, n, as_array(args.dy + i, n) * slope);
  });
}

template <class T>
void binary(const Exec&, const Binary<T>& args) {
  switch (args.op) {
    case BinaryOp::add:
      return binary_with(args, [](T a, T b) { return a + b; });
    case BinaryOp::sub:
      return binary_with(args, [](T a, T b) { return a - b; });
    case BinaryOp::mul:
      return binary_with(args, [](T a, T b) { return a * b; });
    case BinaryOp::div:
      return binary_with(args, [](T a, T b) { return a / b; });
  }
}

template <class T>
void axpy(const Exec&, const Axpy<T>& args) {
  const T alpha = args.factor != nullptr ? args.alpha * *args.factor : args.alpha;
  for_runs(args.n,
           [&](std::int64_t i, std::int64_t n) { store_row(args.y, i, n, alpha * as_array(args.x + i, n)); });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(unary_forward, UnaryForward)
WEDGE_INSTANTIATE_CPU(unary_backward, UnaryBackward)
WEDGE_INSTANTIATE_CPU(binary, Binary)
WEDGE_INSTANTIATE_CPU(axpy, Axpy)
}  // namespace wedge
