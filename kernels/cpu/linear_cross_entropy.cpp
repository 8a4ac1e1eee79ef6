// A chunk's row of G is kept as E = exp(logits - max), with minus the sum of all others in the target's place:
// G times T Σ E. That factor goes into the D-wide operand of each product, which spares a pass over the V-wide
// one; and neither p - 1 nor -log p of the target's probability p loses digits where p is nearly 1, but those
// that logits in bfloat16 never had.
#include "kernels/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/cpu/exp.h"
#include "kernels/cpu/flush_denormals.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/matmul.h"

namespace wedge::cpu {
namespace {

// Elements of a row that are summed while they are still in L1.
constexpr std::int64_t kRun = 2048;

// A run of a row as T: where it lies, or a copy in `buffer`; and back.
template <class T>
T* widened(T* run, std::int64_t, T*) {
  return run;
}
template <class T>
T* widened(const BFloat16* run, std::int64_t n, T* buffer) {
  for (std::int64_t i = 0; i < n; ++i) buffer[i] = static_cast<T>(run[i]);
  return buffer;
}
template <class T>
void put_back(const T*, std::int64_t, T*) {}
template <class T>
void put_back(const T* buffer, std::int64_t n, BFloat16* run) {
  for (std::int64_t i = 0; i < n; ++i) run[i] = BFloat16(buffer[i]);
}

template <class T, class L>
T max_of(L* row, std::int64_t n) {
  T buffer[kRun], max = -std::numeric_limits<T>::infinity();
  for (std::int64_t i = 0; i < n; i += kRun) {
    const std::int64_t count = std::min(kRun, n - i);
    max = std::max(max, as_array(widened(row + i, count, buffer), count).maxCoeff());
  }
  return max;
}

// row = exp(row - max), and 0 at the target; returns the sum.
template <class T, class L>
double exponentiate_others(L* row, std::int64_t n, std::int64_t target, T max) {
  T buffer[kRun];
  double sum = 0;
  for (std::int64_t i = 0; i < n; i += kRun) {
    auto run = as_array(widened(row + i, std::min(kRun, n - i), buffer), std::min(kRun, n - i));
    exp_run(run.size(), run.data(), max, run.data());
    if (target >= i && target < i + run.size()) run[target - i] = T(0);
    sum += static_cast<double>(run.sum());
    put_back(run.data(), run.size(), row + i);
  }
  return sum;
}

// C = A B, rounded where C is BFloat16.
void product(const Exec&, const Gemm<float, BFloat16>& g) {
  rounded_gemm(g);
}
template <class T>
void product(const Exec& exec, const Gemm<T>& g) {
  cpu::gemm<T>(exec, g);
}

// What rows [first, first + count) give, with logits and then E in L: T, or BFloat16, which is all that
// products read of E then.
template <class T, class L>
void chunk(const Exec& exec, const LinearCrossEntropy<T>& args, std::int64_t first, std::int64_t count,
           double* losses) {
  const std::int64_t V = args.V, D = args.D, stride = logit_stride<L>(V);
  const bool with_gradients = args.dx != nullptr || args.dweight != nullptr;
  const Scratch<L> logits(count * stride);
  const Scratch<T> scaled_x(args.dweight != nullptr ? count * D : 0), scale(count);
  const T* x = args.x + first * D;
  product(exec, Gemm<T, L>{.M = count,
                           .N = V,
                           .K = D,
                           .A = {x, D},
                           .B = transposed(args.weight, D),
                           .C = {logits.data(), stride}});
  parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
    const FlushDenormals flush;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t target = args.targets[first + i];
      L* const row = logits.data() + i * stride;
      const T max = max_of<T>(row, V);
      const double below = static_cast<double>(max) - static_cast<double>(row[target]);
      const double others = exponentiate_others(row, V, target, max), at_target = std::exp(-below);
      const double sum = others + at_target;
      losses[i] = at_target > others ? std::log1p(others / at_target) : std::log(sum) + below;
      if (!with_gradients) continue;
      row[target] = static_cast<L>(static_cast<T>(-others));
      scale[i] = static_cast<T>(1.0 / (sum * static_cast<double>(args.rows)));
      if (args.dweight != nullptr) as_array(scaled_x.data() + i * D, D) = scale[i] * as_array(x + i * D, D);
    }
  });
  GemmOperand<T> E{.data = nullptr, .ld = stride};
  if constexpr (std::is_same_v<L, T>)
    E.data = logits.data();
  else
    E.rounded = logits.data();
  if (args.dx != nullptr) {
    T* dx = args.dx + first * D;
    cpu::gemm<T>(exec, {.M = count, .N = D, .K = V, .A = E, .B = {args.weight, D}, .C = {dx, D}});
    for (std::int64_t i = 0; i < count; ++i) as_array(dx + i * D, D) *= scale[i];
  }
  if (args.dweight != nullptr) {
    E.transposed = true;
    cpu::gemm<T>(exec, {.M = V,
                        .N = D,
                        .K = count,
                        .A = E,
                        .B = {scaled_x.data(), D},
                        .C = {args.dweight, D},
                        .beta = first > 0 ? T(1) : T(0)});
  }
}

}  // namespace

bool rounds_logits(const Exec& exec, std::int64_t rows, std::int64_t V, std::int64_t D) {
  return rounds_products(exec, rows, V, D) && rounds_factors(exec, rows, D, V) &&
         rounds_factors(exec, V, D, rows);
}

template <class T>
void linear_cross_entropy(const Exec& exec, const LinearCrossEntropy<T>& args) {
  const std::int64_t V = args.V, D = args.D;
  const bool with_gradients = args.dx != nullptr || args.dweight != nullptr;
  const Scratch<double> losses(args.rows);
  for (std::int64_t first = 0; first < args.rows; first += kLogitRows) {
    const std::int64_t count = std::min(kLogitRows, args.rows - first);
    double* const their_losses = losses.data() + first;
    if constexpr (std::is_same_v<T, float>)
      if (with_gradients && rounds_logits(exec, count, V, D)) {
        chunk<T, BFloat16>(exec, args, first, count, their_losses);
        continue;
      }
    chunk<T, T>(exec, args, first, count, their_losses);
  }
  if (args.dweight != nullptr)
    std::fill(args.dweight + V * D, args.dweight + padded_classes(V) * D, Stat<T>(0));
  double total = 0;
  for (std::int64_t t = 0; t < args.rows; ++t) total += losses[t];
  *args.loss = static_cast<T>(total / static_cast<double>(args.rows));
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(linear_cross_entropy, LinearCrossEntropy)
}  // namespace wedge
