// Runs CUDA kernels, compiled as plain C++, on this processor: for tests on machines without a GPU. README.md
// says what is modelled and what is not. Kernels reach it through cuda_runtime.h in this folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};
using cudaStream_t = struct CUstream_st*;

// Of the thread that runs; set at every switch.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace wedge::emulator {

struct Launch {
  const char* name;
  dim3 grid, block;
  std::size_t shared_bytes;
  cudaStream_t stream;
};

// Calls `body` once for every thread of the grid, and returns when all have ended. Throws wedge::Error, which
// names the kernel, the block and the seed: a thread threw, threads wait for each other for ever, memory was
// written out of bounds, the launch is one that a GPU refuses.
void run(const Launch& launch, void (*body)(const void* context), const void* context);

template <class Body>
void run(const Launch& launch, const Body& body) {
  run(
      launch, [](const void* b) { (*static_cast<const Body*>(b))(); }, &body);
}

// Whether work for this stream is being captured into a graph; captures it; says that it is done now instead.
bool is_captured(cudaStream_t stream);
void capture_work(cudaStream_t stream, std::function<void()> work);
void count_call();

// Runs the kernel, or captures it with a copy of `body`.
template <class Body>
void submit(const Launch& launch, const Body& body) {
  if (is_captured(launch.stream)) return capture_work(launch.stream, [launch, body] { run(launch, body); });
  count_call();
  run(launch, body);
}

// Calls so far that gave work to the device: a kernel, a product, a copy, a fill, or a whole graph.
std::uint64_t calls();

// Throws wedge::Error if the argument holds the address of host memory, which a GPU cannot read.
void check_argument(const char* kernel, int position, const void* argument, std::size_t bytes);

template <class... Params>
void check_arguments(const char* kernel, Params... params) {
  static_assert((std::is_trivially_copyable_v<Params> && ...), "a kernel's parameters are copied as bytes");
  // Padding holds whatever was on the stack before, an address perhaps.
#if __has_builtin(__builtin_clear_padding)
  (__builtin_clear_padding(&params), ...);
#endif
  int position = 0;
  (check_argument(kernel, position++, &params, sizeof params), ...);
}

// The orders of blocks and threads are drawn from this seed; at first it is WEDGE_EMULATOR_SEED or 1.
void set_seed(std::uint64_t seed);

// Shared memory of the running block: NaN at its start, with guard bands that are checked at its end. The
// same key gives the same array.
void* static_shared(const void* key, std::size_t bytes);
void* dynamic_shared();

// __syncthreads, at this line of this file.
void barrier(const char* file, int line);

// What one lane brings to a warp collective: a function that gets the records of all lanes of `mask`, once
// they have all arrived at the same line with the same function and mask. It is called once, by any of them.
struct Collective {
  const char* name;
  void (*complete)(void* const* records, unsigned mask);
};
void collective(const Collective& what, unsigned mask, void* record, const char* file, int line);

// The running thread's number in its block, and the number of blocks that were started before and with it.
struct Running {
  unsigned thread;
  std::uint64_t block;
};
Running running();

// A number from the seed's sequence.
std::uint64_t draw();

// Whether all of it lies in one shared array of the running block.
bool in_shared(const void* p, std::size_t bytes);

// Throws wedge::Error if a guard band of a live block of device memory was overwritten. Every launch checks
// too.
void check_memory();

// Lets host code touch device memory, which otherwise faults: for a look from a debugger.
void set_host_access(bool allowed);

// The device's memory; cudaMalloc fails beyond it.
void set_device_memory(std::size_t bytes);

// The shared memory that a block can have, at most 227 KiB, which it is at first.
void set_shared_memory(std::size_t bytes);

// Whether all of it lies in one live block of device memory.
bool is_device_memory(const void* p, std::size_t bytes);

// Device memory can be touched while one of these lives.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

// Bytes around every array, in shared and in device memory, and what they hold: a NaN as float and as
// bfloat16.
inline constexpr std::size_t kBand = 256;
void fill_band(void* p, std::size_t bytes);
bool band_intact(const void* p, std::size_t bytes);

}  // namespace wedge::emulator
