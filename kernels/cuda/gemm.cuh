// Matrix product with an output type of its own: float32 logits and gradients of parameters from bfloat16
// factors.
#pragma once

#include "kernels/matmul.h"

namespace wedge::cu {

// As gemm (kernels/matmul.h), but C = alpha · op(A) · op(B) + beta · C goes to `out`; g.C is not looked at.
// Instantiated for (T, Out) = (float, float), (BFloat16, BFloat16) and (BFloat16, float), in matmul.cu.
template <class T, class Out>
void gemm_to(const Exec& exec, const Gemm<T>& g, Out* out);

}  // namespace wedge::cu
