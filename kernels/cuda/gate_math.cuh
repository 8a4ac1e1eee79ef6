// The gate's arithmetic, one expression for every kernel of it: backward makes again what forward normalised.
#pragma once

#include "kernels/cuda/common.cuh"

namespace wedge::cu {

// Without the branch of an exact quotient, which would keep one element's latency from the next one's: off by
// two units in the last place at most, and 0 where exp is infinite or next to it.
__device__ inline float sigmoid(float x) {
  return __fdividef(1.0f, 1.0f + expf(-x));
}

// alpha h + (1 - alpha) g
__device__ inline float blend(float alpha, float h, float g) {
  return g + alpha * (h - g);
}

}  // namespace wedge::cu
