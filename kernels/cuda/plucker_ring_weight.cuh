// W_plu in the order of the ring (plucker_ring.cuh), in bfloat16, a thread an element.
#pragma once

#include "kernels/cuda/plucker_ring.cuh"

namespace wedge::cu::plucker {

template <class T>
__global__ void plucker_linear_to_ring_kernel(int R, std::int64_t D, int P, std::int64_t count,
                                              const T* weight, BFloat16* w) {
  for (std::int64_t at = thread_in_grid(); at < count; at += threads_in_grid()) {
    const std::int64_t d = at / kRing % D;
    const RingPair pair(ring_slot(static_cast<int>(at % kRing)), 1 + static_cast<int>(at / kRing / D), R);
    const float x = pair.feature < 0 ? 0.0f : to_float(weight[d * P + pair.feature]);
    w[at] = from_float<BFloat16>(pair.negative ? -x : x);
  }
}

// w [steps, D, 32] = the weight [D, P] in the order of the ring.
template <class T>
void to_ring(const Exec& exec, const Sizes& n, const T* weight, BFloat16* w) {
  const std::int64_t count = ring_steps(n.R) * n.D * kRing;
  launch("plucker_linear_to_ring", plucker_linear_to_ring_kernel<T>, blocks_for(count, kThreads), kThreads, 0,
         exec.stream, n.R, n.D, n.P, count, weight, w);
}

}  // namespace wedge::cu::plucker
