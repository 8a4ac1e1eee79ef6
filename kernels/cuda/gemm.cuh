// Matrix products with an output type of their own (float32 logits and gradients of parameters from bfloat16
// factors), or with a bias.
#pragma once

#include "kernels/matmul.h"

namespace wedge::cu {

// As gemm (kernels/matmul.h), but of factors as they are, whatever exec says, and with C of a type of its own.
// Instantiated for (T, Out) = (float, float), (BFloat16, BFloat16) and (BFloat16, float), in matmul.cu.
template <class T, class Out>
void gemm_to(const Exec& exec, const Gemm<T, Out>& g);

// gemm of one product with alpha = 1, and bias [N] added to each row of C in the same kernel. False where
// there is none: then C is the product alone. cuBLASLt has such kernels for bfloat16 factors of most shapes,
// and for one shape always or never.
template <class T>
bool gemm_with_bias(const Exec& exec, const Gemm<T>& g, const T* bias);

}  // namespace wedge::cu
