// The words of CUDA that kernels are written in, beyond the language itself. The same .cu files are compiled
// by nvcc for a GPU and, as plain C++, for the emulator of tests/support/emulator, which brings its own
// cuda_runtime.h; what differs between the two stands here and in kernels/cuda/common.cuh alone.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <type_traits>

#include "tensor/cuda/check.h"
#include "tensor/host_device.h"
#include "tensor/round_up.h"

namespace wedge::cu {

#if defined(WEDGE_EMULATOR)

template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes,
            void* stream, const Args&... args) {
  emulator::check_arguments<Params...>(name, static_cast<Params>(args)...);
  emulator::submit({name, grid, block, shared_bytes, static_cast<cudaStream_t>(stream)},
                   [kernel, ... params = static_cast<Params>(args)] { kernel(params...); });
}

// The block's dynamic shared memory, as many bytes as the launch asked for, 16-byte aligned.
template <class T>
T* dynamic_shared() {
  return static_cast<T*>(emulator::dynamic_shared());
}

// Declares `name`, an array of `count` (a constant) elements of `type` in the block's shared memory, not
// initialised.
#define WEDGE_SHARED(type, name, count) \
  static const char name##_place = 0;   \
  type* const name =                    \
      static_cast<type*>(::wedge::emulator::static_shared(&name##_place, (count) * sizeof(type)))

#else

// Lets a kernel have so much dynamic shared memory. The limit is the function's, whoever launches it, so it
// is only ever raised: another thread or a graph may count on it.
inline void raise_shared_limit(const void* kernel, std::size_t bytes, const char* name) {
  static std::mutex mutex;
  static std::map<const void*, std::size_t> limits;
  const std::scoped_lock lock(mutex);
  std::size_t& limit = limits[kernel];
  if (limit >= bytes) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        name);
  limit = bytes;
}

// Launches `kernel` on `stream`; returns at once. Throws wedge::Error with the kernel's name where the launch
// itself is refused.
template <class... Params, class... Args>
void launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes,
            void* stream, const Args&... args) {
  // A kernel may have 48 KiB without asking, its fixed arrays included, whose size is not known here.
  constexpr std::size_t kWithoutAsking = 32 * 1024;
  if (shared_bytes > kWithoutAsking)
    raise_shared_limit(reinterpret_cast<const void*>(kernel), shared_bytes, name);
  // clang-format off
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(static_cast<Params>(args)...);
  // clang-format on
  check(cudaGetLastError(), name);
}

template <class T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char wedge_dynamic_shared[];
  return reinterpret_cast<T*>(wedge_dynamic_shared);
}

#define WEDGE_SHARED(type, name, count) __shared__ __align__(16) type name[count]

#endif

// For loops that index registers: left as a loop, it would move the array to local memory.
#if defined(__CUDACC__)
#define WEDGE_UNROLL _Pragma("unroll")
#else
#define WEDGE_UNROLL
#endif

inline constexpr int kWarp = 32;
inline constexpr std::int64_t kMaxGrid = std::int64_t{1} << 30;  // of grid.x; the others go to 65535

// Blocks of `per_block` that cover n, at most `limit`: kernels stride over what is left.
inline unsigned blocks_for(std::int64_t n, std::int64_t per_block, std::int64_t limit = kMaxGrid) {
  const std::int64_t blocks = ceil_div(n, per_block);
  return static_cast<unsigned>(blocks < limit ? blocks : limit);
}

// This thread's number in the grid (1-D), and the number of threads of the grid: the start and the step of a
// loop that covers any n.
__device__ inline std::int64_t thread_in_grid() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline std::int64_t threads_in_grid() {
  return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

// Neighbours in memory that a thread moves at once, up to 16 bytes by one load or store.
template <class T, int kWidth>
struct alignas(kWidth * sizeof(T) < 16 ? kWidth * sizeof(T) : 16) Pack {
  T v[kWidth];
};

// Whether each of these is a multiple of `bytes`, a power of two, as null is.
template <class... Pointees>
WEDGE_HOST_DEVICE bool all_aligned(std::size_t bytes, const Pointees*... pointers) {
  return (reinterpret_cast<std::uintptr_t>(pointers) | ...) % bytes == 0;
}

// Stores what will be read only when it has left L2 anyway: the cache keeps other lines rather than these.
template <class T, int kWidth>
__device__ void store_streaming(Pack<T, kWidth>* to, const Pack<T, kWidth>& x) {
  static_assert(sizeof(x) == 8 || sizeof(x) == 16);
#if defined(WEDGE_EMULATOR)
  *to = x;
#else
  using Word = std::conditional_t<sizeof(x) == 8, uint2, uint4>;
  Word word;
  memcpy(&word, &x, sizeof(x));
  __stcs(reinterpret_cast<Word*>(to), word);
#endif
}

}  // namespace wedge::cu
