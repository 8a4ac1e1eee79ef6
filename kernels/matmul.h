// Matrix products, batched and strided.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

// For each batch: C = alpha · op(A) · op(B) + beta · C, row-major with leading dimensions (elements between
// rows). op(A) is [M, K]: A is [M, K], or [K, M] when trans_a. op(B) is [K, N]: B is [K, N], or [N, K] when
// trans_b. With beta 0, C is only written. On the CPU, factors and sums below the smallest normal number are
// zero (cpu/flush_denormals.h), and products of float may be made in parts (cpu/amx_tile.h).
template <class T>
struct Gemm {
  bool trans_a = false, trans_b = false;
  std::int64_t M, N, K;
  Stat<T> alpha = 1;
  const T* A;
  std::int64_t lda;
  const T* B;
  std::int64_t ldb;
  Stat<T> beta = 0;
  T* C;  // [M, N]
  std::int64_t ldc;
  std::int64_t batches = 1;
  std::int64_t stride_a = 0, stride_b = 0, stride_c = 0;  // elements between matrices of the batch
  // With Exec::bf16_products: A and B as bfloat16, laid out alike, if that is at hand; A or B itself
  // may be null then.
  const BFloat16 *A_rounded = nullptr, *B_rounded = nullptr;
};

WEDGE_KERNEL(gemm, Gemm)

namespace cu {
// GPU memory that cuBLAS works in, 32 MiB for each stream that has had products; no tensor's
// (tensor/storage.h).
std::size_t product_workspace_bytes();
}  // namespace cu

}  // namespace wedge
