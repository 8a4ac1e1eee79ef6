// AdamW and the global gradient norm over all parameters of a model in one pass each.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/exec.h"

namespace wedge {

// One parameter with its state. A null gradient counts as zero. On CUDA the new value is also written as
// bfloat16 where there is a place for it.
template <class T>
struct AdamWTensor {
  std::int64_t n;
  T* p;                         // [n] updated
  const T* g;                   // [n] or null
  T* m;                         // [n] updated
  T* v;                         // [n] updated
  BFloat16* rounded = nullptr;  // [n] = or null
};

// What changes from step to step; reaches the kernel as a pointer, so that a captured step can be replayed.
// Three doubles in this order, without padding.
struct AdamWScalars {
  double learning_rate;
  double bias_correction1;       // 1 - beta1^t
  double sqrt_bias_correction2;  // sqrt(1 - beta2^t)
};

// With norm = sqrt(squared_norm) and g' = g · min(1, grad_clip / (norm + 1e-6)):
//   p -= lr wd p;  m += (1 - beta1) (g' - m);  v = beta2 v + (1 - beta2) g'²;
//   p -= (lr / bias_correction1) m / (sqrt(v) / sqrt_bias_correction2 + eps)
// Does nothing at all when the norm is not finite. On the CPU, what falls below the smallest normal number is
// zero.
template <class T>
struct AdamWStep {
  std::span<const AdamWTensor<T>> tensors;
  double beta1, beta2, eps, weight_decay;
  double grad_clip;             // <= 0: off
  const AdamWScalars* scalars;  // on the kernel's device
  const double* squared_norm;   // what the kernel of that name has left there
};

// Makes the scalars of update t = *steps + 1 where they are needed, and counts the update where its norm is
// finite. All pointers are to the kernel's device.
struct AdamWPrepare {
  double beta1, beta2;
  const double* learning_rate;  // [1]
  std::int64_t* steps;          // [1] updates so far, += 1
  double* norm;                 // [1] = sqrt(Σ g²)
  AdamWScalars* scalars;        // [1] =
};

// out = Σ over all tensors of Σ g², in float64 and in a fixed order.
template <class T>
struct SquaredNorm {
  std::span<const AdamWTensor<T>> tensors;
  double* out;                            // [1] =
  const AdamWPrepare* prepare = nullptr;  // of the step that this is the norm for: done as well, or null
};

WEDGE_KERNEL(adamw_step, AdamWStep)
WEDGE_KERNEL(squared_norm, SquaredNorm)

}  // namespace wedge
