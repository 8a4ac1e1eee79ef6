// The language model's head and its loss, without ever holding T × V logits.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

// logits = x Wᵀ;  loss = mean over t of (log Σ_v exp(logits[t, v]) - logits[t, target_t])
// and, where dx and dweight are given, the gradients of this loss: with G = (softmax(logits) -
// onehot(target)) / T,
//   dx = G W;  dweight = Gᵀ x
// Rows are taken in chunks, so that rows · V logits never stand in memory (as in Liger-Kernel's fused loss).
template <class T>
struct LinearCrossEntropy {
  std::int64_t rows, V, D;
  const T* x;                   // [rows, D]
  const T* weight;              // [V, D]
  const std::int32_t* targets;  // [rows], each in [0, V)
  Stat<T>* loss;                // [1] =
  T* dx;                        // [rows, D] = or null
  Stat<T>* dweight;             // [V, D] = or null
  // With Exec::bf16_products: x and the weight as bfloat16, if that is at hand.
  const BFloat16 *x_rounded = nullptr, *weight_rounded = nullptr;
};

WEDGE_KERNEL(linear_cross_entropy, LinearCrossEntropy)

}  // namespace wedge
