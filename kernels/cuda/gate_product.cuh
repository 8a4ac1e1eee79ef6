// The gate's forward pass in one kernel, its products on tensor cores.
#pragma once

#include "kernels/gate_blend.h"

namespace wedge::cu {

// Does the call and returns true where all factors are at hand in bfloat16, D is a multiple of 8 and the
// tensors are 16-byte aligned; else nothing. Sums in float32; h and g are blended as they are.
template <class T>
bool gate_product(const Exec& exec, const GateBlendForward<T>& args);

}  // namespace wedge::cu
