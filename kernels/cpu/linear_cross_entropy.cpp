// A chunk's row of G is kept as E = exp(logits - max), with minus the sum of all others in the target's place:
// G times T Σ E. That factor goes into the D-wide operand of each product, which spares a pass over the V-wide
// one; and neither p - 1 nor -log p of the target's probability p loses digits where p is nearly 1.
#include "kernels/linear_cross_entropy.h"

#include <algorithm>
#include <cmath>

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

// row = exp(row - max), and 0 at the target; returns the sum.
template <class T>
double exponentiate_others(T* row, std::int64_t n, std::int64_t target, T max) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; i += kRun) {
    auto run = as_array(row + i, std::min(kRun, n - i));
    exp_run(run.size(), run.data(), max, run.data());
    if (target >= i && target < i + run.size()) run[target - i] = T(0);
    sum += static_cast<double>(run.sum());
  }
  return sum;
}

}  // namespace

template <class T>
void linear_cross_entropy(const Exec& exec, const LinearCrossEntropy<T>& args) {
  const std::int64_t V = args.V, D = args.D;
  const bool with_gradients = args.dx != nullptr || args.dweight != nullptr;
  const std::int64_t chunk = std::min(kLogitRows, args.rows), stride = logit_stride<T>(V);
  const Scratch<T> logits(chunk * stride), scaled_x(args.dweight != nullptr ? chunk * D : 0),
      scale(args.rows);
  const Scratch<double> losses(args.rows);
  for (std::int64_t first = 0; first < args.rows; first += kLogitRows) {
    const std::int64_t count = std::min(kLogitRows, args.rows - first);
    const T* x = args.x + first * D;
    cpu::gemm<T>(exec, {.M = count,
                        .N = V,
                        .K = D,
                        .A = {x, D},
                        .B = transposed(args.weight, D),
                        .C = {logits.data(), stride}});
    parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
      const FlushDenormals flush;
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t t = first + i, target = args.targets[t];
        auto row = as_array(logits.data() + i * stride, V);
        const T max = row.maxCoeff();
        const double below = static_cast<double>(max) - static_cast<double>(row[target]);
        const double others = exponentiate_others(row.data(), V, target, max), at_target = std::exp(-below);
        const double sum = others + at_target;
        losses[t] = at_target > others ? std::log1p(others / at_target) : std::log(sum) + below;
        if (!with_gradients) continue;
        row[target] = static_cast<T>(-others);
        scale[t] = static_cast<T>(1.0 / (sum * static_cast<double>(args.rows)));
        if (args.dweight != nullptr) as_array(scaled_x.data() + i * D, D) = scale[t] * as_array(x + i * D, D);
      }
    });
    if (args.dx != nullptr) {
      T* dx = args.dx + first * D;
      cpu::gemm<T>(
          exec,
          {.M = count, .N = D, .K = V, .A = {logits.data(), stride}, .B = {args.weight, D}, .C = {dx, D}});
      for (std::int64_t i = 0; i < count; ++i) as_array(dx + i * D, D) *= scale[first + i];
    }
    if (args.dweight != nullptr)
      cpu::gemm<T>(exec, {.M = V,
                          .N = D,
                          .K = count,
                          .A = transposed(logits.data(), stride),
                          .B = {scaled_x.data(), D},
                          .C = {args.dweight, D},
                          .beta = first > 0 ? T(1) : T(0)});
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
