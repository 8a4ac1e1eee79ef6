#include "tensor/cuda/gpu.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <utility>

#include "tensor/check.h"
#include "tensor/cuda/check.h"

namespace wedge::cu {
namespace {

// Pinned buffers that host data passes through on its way to the GPU, taken in turn; one is used again when
// its last copy is done.
class Staging {
 public:
  static constexpr std::size_t kBytes = std::size_t{1} << 20;

  void copy(std::byte* to, const std::byte* from, std::size_t bytes, cudaStream_t stream) {
    const std::scoped_lock lock(mutex_);
    for (std::size_t done = 0; done < bytes; done += kBytes) {
      Slot& slot = slots_[next_++ % slots_.size()];
      if (slot.memory == nullptr) {
        check(cudaMallocHost(&slot.memory, kBytes), "pinned memory");
        check(cudaEventCreateWithFlags(&slot.copied, cudaEventDisableTiming), "event");
      } else {
        check(cudaEventSynchronize(slot.copied), "copy to the GPU");
      }
      const std::size_t part = std::min(kBytes, bytes - done);
      std::memcpy(slot.memory, from + done, part);
      check(cudaMemcpyAsync(to + done, slot.memory, part, cudaMemcpyHostToDevice, stream), "copy to the GPU");
      check(cudaEventRecord(slot.copied, stream), "event");
    }
  }

 private:
  struct Slot {
    void* memory = nullptr;
    cudaEvent_t copied{};
  };
  std::mutex mutex_;
  std::array<Slot, 8> slots_;
  std::size_t next_ = 0;
};

// Made at the first use and never destroyed: tensors with static lifetime may outlive anything.
struct Gpu {
  cudaStream_t stream{};
  cudaMemPool_t pool{};
  Staging staging;

  Gpu() {
    WEDGE_CHECK(device_count() > 0, "cuda: no GPU: {}", why_no_device());
    check(cudaSetDevice(0), "device 0");
    int least = 0, greatest = 0;
    check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "priority of a stream");
    check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest), "stream");
    check(cudaDeviceGetDefaultMemPool(&pool, 0), "memory pool");
    std::uint64_t keep_everything = UINT64_MAX;
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep_everything), "memory pool");
  }
};

Gpu& gpu() {
  static Gpu* const instance = new Gpu;
  return *instance;
}

}  // namespace

void fail(const char* what, const std::string& why) {
  throw Error(fmt::format("cuda: {}: {}", what, why));
}

namespace {

struct Devices {
  int count = 0;
  std::string why_none;

  Devices() {
    const cudaError_t status = cudaGetDeviceCount(&count);
    int major = 0, minor = 0;
    if (status != cudaSuccess || count == 0) {
      count = 0;
      why_none = fmt::format("CUDA shows none to this process ({})", cudaGetErrorString(status));
    } else if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) != cudaSuccess ||
               cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0) != cudaSuccess ||
               major < 8) {
      count = 0;
      why_none = fmt::format("expected compute capability 8.0 or later, got {}.{}", major, minor);
    }
    (void)cudaGetLastError();
  }
};

const Devices& devices() {
  static const Devices instance;
  return instance;
}

int attribute(cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, 0), "device 0");
  return value;
}

}  // namespace

int device_count() {
  return devices().count;
}

std::string why_no_device() {
  return devices().why_none;
}

DeviceMemory device_memory() {
  DeviceMemory memory{};
  check(cudaMemGetInfo(&memory.free, &memory.total), "memory info");
  return memory;
}

std::size_t l2_bytes() {
  static const int bytes = attribute(cudaDevAttrL2CacheSize);
  return static_cast<std::size_t>(bytes);
}

int multiprocessors() {
  static const int count = attribute(cudaDevAttrMultiProcessorCount);
  return count;
}

std::size_t shared_bytes_of_block() {
  return static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

std::string describe_device() {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "device 0");
  return fmt::format("{}, compute capability {}.{}, {:.1f} GiB", properties.name, properties.major,
                     properties.minor, static_cast<double>(properties.totalGlobalMem) / 0x1p30);
}

namespace {

thread_local void* t_stream = nullptr;  // null: the process's

cudaStream_t stream_of_thread() {
  return static_cast<cudaStream_t>(stream());
}

}  // namespace

void* stream() {
  return t_stream != nullptr ? t_stream : gpu().stream;
}

StreamScope::StreamScope(void* stream) : previous_(std::exchange(t_stream, stream)) {}

StreamScope::~StreamScope() {
  t_stream = previous_;
}

bool is_capturing() {
  auto status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(gpu().stream, &status), "stream");
  return status != cudaStreamCaptureStatusNone;
}

namespace {

// Before what would fail anyway, or worse: a copy from the host would be captured with the address of a
// buffer that is filled anew before the graph is replayed.
void refuse_in_capture(const char* what) {
  if (is_capturing()) fail(what, "not possible while a graph is captured");
}

}  // namespace

void synchronize() {
  refuse_in_capture("synchronize");
  check(cudaStreamSynchronize(stream_of_thread()), "a kernel or copy");
}

std::byte* allocate(std::size_t bytes) {
  refuse_in_capture("allocation");
  void* block = nullptr;
  const cudaError_t status = cudaMallocAsync(&block, bytes, stream_of_thread());
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // the error was seen: the next call must not report it again
    const auto [free, total] = device_memory();
    throw Error(fmt::format("cuda: out of memory: {} bytes asked for, {} free of {}", bytes, free, total));
  }
  check(status, "allocation");
  return static_cast<std::byte*>(block);
}

void release(std::byte* block) noexcept {
  if (cudaFreeAsync(block, stream_of_thread()) != cudaSuccess) (void)cudaGetLastError();  // as in check()
}

void trim() noexcept {
  const bool done = cudaStreamSynchronize(stream_of_thread()) == cudaSuccess;
  if (cudaMemPoolTrimTo(gpu().pool, 0) != cudaSuccess || !done) (void)cudaGetLastError();
}

void copy_bytes(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes) {
  if (bytes == 0) return;
  if (from_device != to_device) refuse_in_capture("copy between the host and the GPU");
  if (from_device == Device::cpu)
    return gpu().staging.copy(static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes,
                              stream_of_thread());
  const bool to_host = to_device == Device::cpu;
  check(cudaMemcpyAsync(to, from, bytes, to_host ? cudaMemcpyDeviceToHost : cudaMemcpyDeviceToDevice,
                        stream_of_thread()),
        "copy from the GPU");
  if (to_host) synchronize();
}

void fill_bytes(void* to, unsigned char value, std::size_t bytes) {
  if (bytes > 0) check(cudaMemsetAsync(to, value, bytes, stream_of_thread()), "fill");
}

}  // namespace wedge::cu
