// The language model's head and its loss, without ever holding T × V logits.
#pragma once

#include <cstdint>

#include "kernels/exec.h"
#include "tensor/round_up.h"

namespace wedge {

// V rounded up to a multiple of 8: rows that dweight has memory for, so that the products that make it have
// sizes which tensor cores take whole.
constexpr std::int64_t padded_classes(std::int64_t V) {
  return round_up(V, 8);
}

//   logits = x Wᵀ;  loss = mean over t of (log Σ_v exp(logits[t, v]) - logits[t, target_t])
// and, where dx and dweight are given, the gradients of this loss:
//   G = (softmax(logits) - onehot(target)) / T;  dx = G W;  dweight = Gᵀ x
// On the CPU, probabilities below the smallest normal number are zero in the gradients.
// Rows are taken in chunks, so that rows · V logits never stand in memory (as in Liger-Kernel's fused loss).
// Where gradients are wanted, G takes the logits' place and logits have its precision, with bfloat16 products
// bfloat16 (as under PyTorch's autocast; beyond 1e9 in size they may give NaN on the GPU), on the CPU in
// chunks of which cpu::rounds_logits() says so. Maxima, exponentials and sums are float32 always, and logits
// are where only the loss is wanted. On the GPU G of the last rows (usually all) can be kept, so that backward
// makes their part of dweight later.
template <class T>
struct LinearCrossEntropy {
  std::int64_t rows, V, D;
  const T* x;                   // [rows, D]
  const T* weight;              // [V, D]
  const std::int32_t* targets;  // [rows], each in [0, V)
  Stat<T>* loss;                // [1] =
  T* dx;                        // [rows, D] = or null
  Stat<T>* dweight;             // [padded_classes(V), D] =, zeros from row V on; or null
  // With Exec::bf16_products: x and the weight as bfloat16, if that is at hand; the weight with so many rows,
  // zeros from row V on.
  const BFloat16 *x_rounded = nullptr, *weight_rounded = nullptr;
  std::int64_t rounded_rows = V;
  // CUDA: [HeadRows::part, padded_classes(V)], bfloat16 with Exec::bf16_products, else T: its first
  // HeadRows::last rows = G of the last rows, zeros from column V on. dweight is then of the rows before. Or
  // null.
  void* kept = nullptr;
};

namespace cpu {
// Rows whose logits lie in memory at once. Each chunk packs all of W twice, and reads and writes all of
// dweight.
inline constexpr std::int64_t kLogitRows = 1024;
// Elements from a row of logits to the next: rows begin at lines of cache.
template <class T>
constexpr std::int64_t logit_stride(std::int64_t V) {
  return round_up(V, 64 / sizeof(T));
}
// Whether the logits of so many rows, at most kLogitRows, and their gradient are bfloat16: where all three
// products are made of such factors, and none has more steps than one tile adds up.
bool rounds_logits(const Exec& exec, std::int64_t rows, std::int64_t V, std::int64_t D);
}  // namespace cpu

namespace cu {
// Of float tensors: rows of which G lies in memory at once, and how many of those are the last, at least 1
// where there are any. With all rows in one part there is no dweight before it.
struct HeadRows {
  std::int64_t part, last;
};
HeadRows linear_cross_entropy_kept_rows(const Exec& exec, std::int64_t rows, std::int64_t V);
}  // namespace cu

WEDGE_KERNEL(linear_cross_entropy, LinearCrossEntropy)

}  // namespace wedge
