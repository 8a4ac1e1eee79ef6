// What cuBLAS and cuBLASLt multiply, once they have checked their arguments.
#pragma once

#include <cstdint>

#include "cuda_runtime.h"

namespace wedge::emulator {

// Column-major, for each batch: C [m, n] = alpha · op(A) · op(B) + beta · C (+ bias in every column). With
// beta 0, C is only written; with k or alpha 0, A and B are not read. Factors and C are bfloat16 or float.
struct Product {
  bool trans_a = false, trans_b = false;
  std::int64_t m, n, k;
  float alpha = 1;
  const void* A;
  std::int64_t lda;
  long long stride_a = 0;
  const void* B;
  std::int64_t ldb;
  long long stride_b = 0;
  bool float_factors = false;
  float beta = 0;
  void* C;
  std::int64_t ldc;
  long long stride_c = 0;
  bool float_out = true;
  std::int64_t batches = 1;
  // Of a product without batches, of its own type.
  bool float_bias = true;
  const void* bias = nullptr;  // [m]
};

// Does it, or captures it where the stream is captured. Throws wedge::Error where a matrix or a vector does
// not lie in device memory.
void multiply(cudaStream_t stream, const Product& product);

}  // namespace wedge::emulator
