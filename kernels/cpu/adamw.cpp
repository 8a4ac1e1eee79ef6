// Bytes a parameter: 4 reads and 3 writes of 4 bytes. Parameters are cut into pieces of kPiece elements, and
// pieces are shared out over the threads, so that many small tensors cost no more than a large one.
#include "kernels/adamw.h"

#include <cmath>
#include <vector>

#include "kernels/cpu/flush_denormals.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"

namespace wedge::cpu {
namespace {

constexpr std::int64_t kPiece = 4096;

template <class T>
struct Piece {
  const AdamWTensor<T>* tensor;
  std::int64_t begin, n;
};

template <class T>
std::vector<Piece<T>> pieces_of(std::span<const AdamWTensor<T>> tensors) {
  std::vector<Piece<T>> pieces;
  for (const AdamWTensor<T>& tensor : tensors)
    for (std::int64_t i = 0; i < tensor.n; i += kPiece)
      pieces.push_back({&tensor, i, std::min(kPiece, tensor.n - i)});
  return pieces;
}

void prepare(const AdamWPrepare& args, double squared_norm) {
  const double norm = std::sqrt(squared_norm);
  const auto t = static_cast<double>(*args.steps + 1);
  *args.scalars = {*args.learning_rate, 1 - std::pow(args.beta1, t), std::sqrt(1 - std::pow(args.beta2, t))};
  *args.norm = norm;
  if (std::isfinite(norm)) ++*args.steps;
}

}  // namespace

template <class T>
void adamw_step(const Exec&, const AdamWStep<T>& args) {
  const AdamWScalars& k = *args.scalars;
  const double norm = std::sqrt(*args.squared_norm);
  if (!std::isfinite(norm)) return;
  const double clip = args.grad_clip > 0 ? std::min(1.0, args.grad_clip / (norm + 1e-6)) : 1.0;
  const T decay = static_cast<T>(1.0 - k.learning_rate * args.weight_decay);
  const T step_size = static_cast<T>(k.learning_rate / k.bias_correction1);
  const T sqrt_correction = static_cast<T>(k.sqrt_bias_correction2);
  const T scale = static_cast<T>(clip), eps = static_cast<T>(args.eps);
  const T rate1 = static_cast<T>(1.0 - args.beta1), beta2 = static_cast<T>(args.beta2);
  const T rate2 = static_cast<T>(1.0 - args.beta2);
  const auto pieces = pieces_of(args.tensors);
  parallel_for(static_cast<std::int64_t>(pieces.size()), 4, [&](std::int64_t begin, std::int64_t end) {
    const FlushDenormals flush;
    for (std::int64_t i = begin; i < end; ++i) {
      const AdamWTensor<T>* const tensor = pieces[i].tensor;
      // (clang takes no structured binding into omp simd.)
      const std::int64_t at = pieces[i].begin, n = pieces[i].n;
      T* p = tensor->p + at;
      T* m = tensor->m + at;
      T* v = tensor->v + at;
      const T* g = tensor->g == nullptr ? nullptr : tensor->g + at;
#pragma omp simd
      for (std::int64_t j = 0; j < n; ++j) {
        const T grad = g == nullptr ? T(0) : g[j] * scale;
        const T mj = m[j] + rate1 * (grad - m[j]);
        const T vj = beta2 * v[j] + rate2 * grad * grad;
        m[j] = mj;
        v[j] = vj;
        p[j] = p[j] * decay - step_size * mj / (std::sqrt(vj) / sqrt_correction + eps);
      }
    }
  });
}

template <class T>
void squared_norm(const Exec&, const SquaredNorm<T>& args) {
  const auto pieces = pieces_of(args.tensors);
  std::vector<double> sums(pieces.size(), 0.0);
  parallel_for(static_cast<std::int64_t>(pieces.size()), 4, [&](std::int64_t begin, std::int64_t end) {
    const FlushDenormals flush;
    for (std::int64_t i = begin; i < end; ++i) {
      const AdamWTensor<T>* const tensor = pieces[i].tensor;
      const std::int64_t at = pieces[i].begin, n = pieces[i].n;
      if (tensor->g == nullptr) continue;
      const T* g = tensor->g + at;
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t j = 0; j < n; ++j) sum += static_cast<double>(g[j]) * static_cast<double>(g[j]);
      sums[i] = sum;
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  *args.out = total;
  if (args.prepare != nullptr) prepare(*args.prepare, total);
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(adamw_step, AdamWStep)
WEDGE_INSTANTIATE_CPU(squared_norm, SquaredNorm)
}  // namespace wedge
