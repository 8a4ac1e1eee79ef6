// The language model's head and its loss, without ever holding T × V logits.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

// logits = x Wᵀ;  loss = mean over t of (log Σ_v exp(logits[t, v]) - logits[t, target_t])
// and, where dx and dweight are given, the gradients of this loss: with G = (softmax(logits) -
// onehot(target)) / T,
//   dx = G W;  dweight = Gᵀ x
// Rows are taken in chunks, whose logits are overwritten by their gradient (as in Liger-Kernel's fused loss).
template <class T>
struct LinearCrossEntropy {
  std::int64_t rows, V, D;
  const T* x;                                // [rows, D]
  const T* weight;                           // [V, D]
  const std::int32_t* targets;               // [rows], each in [0, V)
  Stat<T>* loss;                             // [1] =
  T* dx;                                     // [rows, D] = or null
  Stat<T>* dweight;                          // [V, D] = or null
  const BFloat16* weight_rounded = nullptr;  // with Exec::bf16_products: the weight as bfloat16, if at hand
};

WEDGE_KERNEL(linear_cross_entropy, LinearCrossEntropy)

}  // namespace wedge
