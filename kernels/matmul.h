// Matrix products, batched and strided.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

// A or B of a product, row-major in memory.
template <class T>
struct GemmOperand {
  const T* data;
  std::int64_t ld;  // leading dimension: elements between rows
  // With Exec::bf16_products, or where cpu::rounds_factors() says so: the same as bfloat16, laid out alike, if
  // that is at hand; data may be null then.
  const BFloat16* rounded = nullptr;
  bool transposed = false;  // A lies there as [K, M], B as [N, K]
  std::int64_t stride = 0;  // elements between matrices of the batch

  // What begins `elements` further on.
  GemmOperand offset_by(std::int64_t elements) const {
    GemmOperand moved = *this;
    if (data != nullptr) moved.data += elements;
    if (rounded != nullptr) moved.rounded += elements;
    return moved;
  }
};

// The operand that is the transpose of what lies in memory.
template <class T>
GemmOperand<T> transposed(const T* data, std::int64_t ld, const BFloat16* rounded = nullptr) {
  return {data, ld, rounded, true};
}

// C of a product, row-major in memory and never transposed.
template <class T>
struct GemmResult {
  T* data;
  std::int64_t ld;
  std::int64_t stride = 0;
};

// For each batch: C [M, N] = alpha · A [M, K] · B [K, N] + beta · C. With beta 0, C is only written. On the
// CPU, factors and sums below the smallest normal number are zero (cpu/flush_denormals.h), and products of
// float may be made in parts (cpu/amx_tile.h). For C of another type than T there are
// cpu::rounded_gemm() and cuda/gemm.cuh.
template <class T, class Out = T>
struct Gemm {
  std::int64_t M, N, K;
  GemmOperand<T> A, B;
  GemmResult<Out> C;
  Stat<T> alpha = 1, beta = 0;
  std::int64_t batches = 1;
};

WEDGE_KERNEL(gemm, Gemm)

namespace cpu {
// Whether a product of one batch is made of factors rounded to bfloat16 (Exec::bf16_products_on_cpu).
bool rounds_factors(const Exec& exec, std::int64_t M, std::int64_t N, std::int64_t K);
// Whether it can be rounded to bfloat16 too, to nearest, ties to even: by rounded_gemm(), with beta 0.
bool rounds_products(const Exec& exec, std::int64_t M, std::int64_t N, std::int64_t K);
void rounded_gemm(const Gemm<float, BFloat16>& g);
}  // namespace cpu

namespace cu {
// GPU memory that cuBLAS works in, 32 MiB for each stream that has had products; no tensor's
// (tensor/storage.h).
std::size_t product_workspace_bytes();
}  // namespace cu

}  // namespace wedge
