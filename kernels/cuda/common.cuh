// What the kernels share: loads and stores in float32 whatever the dtype, sums over warps and blocks in a
// fixed order, working memory.
#pragma once

#include "kernels/cuda/mma.cuh"
#include "kernels/exec.h"
#include "tensor/cuda/gpu.h"
#include "tensor/cuda/launch.cuh"
#include "tensor/storage.h"

namespace wedge::cu {

__device__ inline int lane_of_warp() {
  return static_cast<int>(threadIdx.x) % kWarp;
}

// float32 arithmetic for float and bfloat16 storage.
template <class T>
__device__ float to_float(T x) {
  return static_cast<float>(x);
}
template <class T>
__device__ T from_float(float x) {
  return static_cast<T>(x);
}

// kWidth neighbours in float32; `p` is aligned for all of them.
template <int kWidth>
using Floats = Pack<float, kWidth>;
template <int kWidth, class T>
__device__ Floats<kWidth> load_floats(const T* p) {
  const auto pack = *reinterpret_cast<const Pack<T, kWidth>*>(p);
  Floats<kWidth> x;
  for (int k = 0; k < kWidth; ++k) x.v[k] = to_float(pack.v[k]);
  return x;
}
template <int kWidth, class T>
__device__ void store_floats(T* p, const Floats<kWidth>& x) {
  if constexpr (std::is_same_v<T, BFloat16> && kWidth % 2 == 0) {
    Pack<std::uint32_t, kWidth / 2> pairs;
    for (int k = 0; k < kWidth / 2; ++k) pairs.v[k] = pack_bf16(x.v[2 * k], x.v[2 * k + 1]);
    *reinterpret_cast<Pack<std::uint32_t, kWidth / 2>*>(p) = pairs;
  } else {
    Pack<T, kWidth> pack;
    for (int k = 0; k < kWidth; ++k) pack.v[k] = from_float<T>(x.v[k]);
    *reinterpret_cast<Pack<T, kWidth>*>(p) = pack;
  }
}

// x [n] = 0, whatever the dtype.
template <class T>
void fill_with_zero(T* x, std::int64_t n) {
  fill_bytes(x, 0, static_cast<std::size_t>(n) * sizeof(T));
}

// rounded = y in bfloat16, if that is not null: after kernels that do not write it themselves.
template <class T>
void round_result(std::int64_t n, const T* y, BFloat16* rounded) {
  if (rounded != nullptr) copy_strided({1, {n}, {1}, {1}, rounded, y}, DType::bf16, dtype_of<T>);
}

// y (+)= x, in float32.
template <class T>
__device__ void put(T* y, float x, bool add) {
  *y = from_float<T>(add ? to_float(*y) + x : x);
}

inline constexpr unsigned kAllLanes = 0xffffffffu;

// This thread's warp, so that the compiler knows it to be one for all its lanes.
__device__ inline int warp_of_block() {
  return __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarp, 0);
}

// Every lane gets the sum (maximum) over the warp; all 32 lanes must call.
template <class T>
__device__ T warp_sum(T x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(kAllLanes, x, offset);
  return x;
}
template <class T>
__device__ T warp_max(T x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, x, offset);
    x = other > x ? other : x;
  }
  return x;
}

// The sums over the warp of several numbers, in the time of one.
template <int kCount>
__device__ void warp_sums(float (&x)[kCount]) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    WEDGE_UNROLL
    for (int k = 0; k < kCount; ++k) x[k] += __shfl_xor_sync(kAllLanes, x[k], offset);
  }
}

// Every thread gets the sum (maximum) over the block, whose size is a multiple of 32; all threads must call.
// `shared` holds at least 32 elements and is free again when the call returns.
template <class T>
__device__ T block_sum(T x, T* shared) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  x = warp_sum(x);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = warp_sum(lane < warps ? shared[lane] : T(0));
  __syncthreads();
  return x;
}
template <class T>
__device__ T block_max(T x, T* shared) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  x = warp_max(x);
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = warp_max(shared[lane < warps ? lane : 0]);
  __syncthreads();
  return x;
}

// n elements of device memory for kernels of this launcher, not initialised. Given back when it goes out of
// scope: memory is reused in the order of the stream.
template <class T>
class Scratch {
 public:
  explicit Scratch(std::int64_t n) : storage_(static_cast<std::size_t>(n) * sizeof(T), Device::cuda) {}
  T* data() const { return reinterpret_cast<T*>(storage_.data()); }

 private:
  Storage storage_;
};

}  // namespace wedge::cu

// At the end of cuda/<op>.cu: instantiates it for the types that the GPU computes in.
#define WEDGE_INSTANTIATE_CUDA(name, Args)                        \
  template void cu::name<float>(const Exec&, const Args<float>&); \
  template void cu::name<BFloat16>(const Exec&, const Args<BFloat16>&);
