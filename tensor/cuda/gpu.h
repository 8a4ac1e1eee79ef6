// The GPU as host code sees it, without a CUDA header. A build without CUDA declares these and never calls
// them: every use is behind `if constexpr (kWithCuda)`. All work goes to one stream, in the order of the
// calls; what may be done beside it goes to a second (side_stream.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "tensor/device.h"
#include "tensor/dtype.h"

namespace wedge::cu {

// Number of GPUs that CUDA shows to this process; 0 without a driver, and where the first, which is the one
// that wedge uses, is older than its kernels (compute capability 8.0). CUDA_VISIBLE_DEVICES chooses among
// them.
int device_count();
// Why device_count() is 0.
std::string why_no_device();
// "NVIDIA H200, compute capability 9.0, 139.8 GiB".
std::string describe_device();

// Bytes of its memory; what is not free is every process's, with contexts and code.
struct DeviceMemory {
  std::size_t free, total;
};
DeviceMemory device_memory();
// Bytes of its second-level cache.
std::size_t l2_bytes();
// How many multiprocessors it has.
int multiprocessors();
// Bytes of shared memory that a block can have: 163 KiB (compute capability 8.0), 99 (8.6, 8.9), 227 (9.0).
std::size_t shared_bytes_of_block();

// The stream that kernels and copies of this thread go to (a cudaStream_t): the process's, or another while a
// StreamScope lives.
void* stream();
class StreamScope {
 public:
  explicit StreamScope(void* stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  void* previous_;
};
// Waits until everything that was given to the stream is done, and throws wedge::Error if any of it failed.
void synchronize();

// Whether what is given to the stream is being captured (tensor/cuda/graph.h). Meanwhile synchronize(),
// allocate() and copies from and to the host throw wedge::Error.
bool is_capturing();

// Device memory from the driver's stream-ordered pool, which keeps what is released. Throws wedge::Error
// naming what was asked for and what was free.
std::byte* allocate(std::size_t bytes);
void release(std::byte* block) noexcept;
// Waits for the stream and gives what was released back from the pool to the driver.
void trim() noexcept;

// Copies bytes between or within devices; at least one of them is the GPU. Host memory is free to change when
// the call returns (it passes through pinned buffers); only a copy to the host waits for the stream.
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes);
// Sets every byte of device memory.
void fill_bytes(void* to, unsigned char value, std::size_t bytes);

// to[i] = from[i] converted, for every index of `sizes`; strides in elements; both on the GPU and apart, or
// with equal strides the same.
struct StridedCopy {
  static constexpr int kMaxRank = 8;
  int rank;
  std::int64_t sizes[kMaxRank], to_strides[kMaxRank], from_strides[kMaxRank];
  void* to;
  const void* from;
};
void copy_strided(const StridedCopy& args, DType to_dtype, DType from_dtype);
// The same from one number: to[i] = value, rounded to the dtype. `from` is not used.
void fill_strided(const StridedCopy& args, DType dtype, double value);

}  // namespace wedge::cu
