// Kernels with one fault each, which the emulator must show; Fault::none is the same work done right.
#include <stdexcept>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/mma.cuh"
#include "tests/emulator/kernels.h"

namespace wedge::emulator_test {

using namespace wedge::cu;

namespace {

constexpr int kThreads = 128;

// y[i] = x[i] + the two neighbours of i on the circle, in two rounds through one buffer.
__global__ void neighbours_kernel(Fault fault, const float* x, float* y) {
  WEDGE_SHARED(float, shared, kThreads);
  const int i = static_cast<int>(threadIdx.x);
  float value = x[i];
  for (int round = 0; round < 2; ++round) {
    shared[i] = value;
    if (fault != Fault::no_barrier_before_read) __syncthreads();
    value += shared[(i + 1) % kThreads] + shared[(i + kThreads - 1) % kThreads];
    if (fault != Fault::no_barrier_before_write) __syncthreads();
  }
  y[i] = value;
}

// y[i] = x[i], exchanged twice between the halves of a warp.
__global__ void warp_exchange_kernel(Fault fault, const float* x, float* y) {
  WEDGE_SHARED(float, shared, kThreads);
  const int i = static_cast<int>(threadIdx.x);
  shared[i] = x[i];
  if (fault != Fault::no_warp_barrier) __syncwarp();
  const float other = shared[i ^ 16];
  y[i] = __shfl_xor_sync(kAllLanes, other, 16);
}

// y[0] = a number that does not commute with the order of the blocks.
__global__ void block_order_kernel(float* y) {
  if (threadIdx.x == 0) y[0] = y[0] * 2.0f + static_cast<float>(blockIdx.x);
}

__global__ void out_of_bounds_kernel(Fault fault, int n, float* y) {
  WEDGE_SHARED(float, shared, kThreads);
  float* const dynamic = dynamic_shared<float>();
  const int i = static_cast<int>(threadIdx.x);
  y[i] = 0;
  shared[i] = 0;
  dynamic[i] = 0;
  if (i != 5) return;
  if (fault == Fault::write_before_global) y[-1] = 0;
  if (fault == Fault::write_beyond_global) y[n] = 0;
  if (fault == Fault::write_before_shared) shared[-1] = 0;
  if (fault == Fault::write_beyond_shared) shared[kThreads] = 0;
  if (fault == Fault::write_beyond_dynamic_shared) dynamic[kThreads] = 0;
}

__global__ void waits_kernel(Fault fault, const float* x, float* y) {
  const int i = static_cast<int>(threadIdx.x);
  if (fault == Fault::return_before_barrier && i == 77) return;
  if (fault == Fault::throws && i == 3) throw std::runtime_error("planted");
  if (fault == Fault::different_barriers && i < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  float value = x[i];
  if (fault != Fault::lanes_skip_shuffle || i % 32 < 31) value = __shfl_xor_sync(kAllLanes, value, 1);
  if (fault == Fault::shuffle_from_outside_mask && i < 16) value = __shfl_sync(0xffffu, value, 20);
  if (fault == Fault::mask_lacks_caller) value = __shfl_sync(0xffffu, value, 0);
  y[i] = value;
}

__global__ void copy_kernel(Fault fault, const float* x, float* y) {
  WEDGE_SHARED(float, shared, 4 * kThreads);
  const int i = static_cast<int>(threadIdx.x);
  cp_async_16(shared + 4 * i, x + 4 * (i % (kThreads / 4)) + (fault == Fault::misaligned_copy ? 1 : 0));
  cp_async_commit();
  if (fault != Fault::no_wait_for_copy) cp_async_wait<0>();
  __syncthreads();
  y[i] = shared[(4 * i + 8) % (4 * kThreads)];
}

}  // namespace

void run_fault(Fault fault, int n, const float* x, float* y) {
  switch (fault) {
    case Fault::none:
    case Fault::no_barrier_before_read:
    case Fault::no_barrier_before_write:
      return launch("neighbours", neighbours_kernel, 1, kThreads, 0, nullptr, fault, x, y);
    case Fault::no_warp_barrier:
      return launch("warp_exchange", warp_exchange_kernel, 1, kThreads, 0, nullptr, fault, x, y);
    case Fault::depends_on_block_order:
      return launch("block_order", block_order_kernel, 5, kThreads, 0, nullptr, y);
    case Fault::write_before_global:
    case Fault::write_beyond_global:
    case Fault::write_before_shared:
    case Fault::write_beyond_shared:
    case Fault::write_beyond_dynamic_shared:
      return launch("out_of_bounds", out_of_bounds_kernel, 1, kThreads, kThreads * sizeof(float), nullptr,
                    fault, n, y);
    case Fault::return_before_barrier:
    case Fault::different_barriers:
    case Fault::lanes_skip_shuffle:
    case Fault::shuffle_from_outside_mask:
    case Fault::mask_lacks_caller:
    case Fault::throws:
      return launch("waits", waits_kernel, 1, kThreads, 0, nullptr, fault, x, y);
    case Fault::no_wait_for_copy:
    case Fault::misaligned_copy:
      return launch("copy", copy_kernel, 1, kThreads, 0, nullptr, fault, x, y);
  }
}

}  // namespace wedge::emulator_test
