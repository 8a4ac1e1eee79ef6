// Matrix products with an output type of their own (float32 logits and gradients of parameters from bfloat16
// factors), or with a vector beside them.
#pragma once

#include "kernels/matmul.h"

namespace wedge::cu {

// As gemm (kernels/matmul.h), but C = alpha · op(A) · op(B) + beta · C goes to `out`; g.C is not looked at.
// Instantiated for (T, Out) = (float, float), (BFloat16, BFloat16) and (BFloat16, float), in matmul.cu.
template <class T, class Out>
void gemm_to(const Exec& exec, const Gemm<T>& g, Out* out);

// At most one of the two, for a product without batches and with alpha = 1.
template <class T>
struct Epilogue {
  const T* bias = nullptr;  // [N], added to each row of C
  T* sums_of_a = nullptr;   // [M], = Σ over K of op(A), of the factor as it is multiplied: rounded perhaps
};

// gemm, and whether the epilogue was done in its kernel. cuBLASLt has such kernels for bfloat16 factors of
// most shapes, and for one shape always or never; where it has none, C is the product alone and sums_of_a
// what it was.
template <class T>
bool gemm_with(const Exec& exec, const Gemm<T>& g, const Epilogue<T>& epilogue);

}  // namespace wedge::cu
