// The host's side of CUDA: errors, the device, memory and copies. Every call is finished when it returns.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "arena.h"
#include "graphs.h"
#include "shared_memory.h"
#include "tensor/check.h"

using wedge::emulator::arena;
using wedge::emulator::DeviceAccess;
using wedge::emulator::is_captured;
using wedge::emulator::refuse_in_capture;

namespace {

cudaError_t fail(cudaError_t status) {
  return arena().last_error = status;
}

}  // namespace

// ---- errors and devices

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalState:
      return "cudaErrorIllegalState";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureUnjoined:
      return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureIsolation:
      return "cudaErrorStreamCaptureIsolation";
    case cudaErrorCapturedEvent:
      return "cudaErrorCapturedEvent";
  }
  return "unknown";
}
const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorIllegalState:
      return "the operation cannot be performed in the present state";
    case cudaErrorNotSupported:
      return "operation not supported";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureUnjoined:
      return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation:
      return "dependency created on uncaptured work in another stream";
    case cudaErrorCapturedEvent:
      return "operation not permitted on an event last recorded in a capturing stream";
  }
  return "unknown error";
}
cudaError_t cudaGetLastError() {
  return std::exchange(arena().last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  return arena().last_error;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice);
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (device != 0) return fail(cudaErrorInvalidDevice);
  *p = {};
  std::strcpy(p->name, "emulator");
  p->totalGlobalMem = arena().limit;
  p->sharedMemPerBlock = 48 * 1024;
  p->sharedMemPerBlockOptin = wedge::emulator::SharedMemory::most;
  p->sharedMemPerMultiprocessor = 228 * 1024;
  p->major = 9;
  p->multiProcessorCount = 4;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->regsPerBlock = 65536;
  p->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t status = cudaGetDeviceProperties(&p, device); status != cudaSuccess) return status;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      return cudaSuccess;
  }
  return fail(cudaErrorInvalidValue);
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  return cudaDriverGetVersion(version);
}
cudaError_t cudaDeviceSynchronize() {
  return refuse_in_capture(true);
}

// ---- memory

namespace {

cudaError_t allocate(void** p, std::size_t bytes) {
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  *p = arena().allocate(bytes);
  return *p != nullptr ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}
cudaError_t release(void* p) {
  return p == nullptr || arena().release(p) ? cudaSuccess : fail(cudaErrorInvalidValue);
}

}  // namespace

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  if (const cudaError_t status = refuse_in_capture(false); status != cudaSuccess) return status;
  return allocate(p, bytes);
}
cudaError_t cudaFree(void* p) {
  if (const cudaError_t status = refuse_in_capture(false); status != cudaSuccess) return status;
  return release(p);
}
// Memory that belongs to a graph is not modelled.
cudaError_t cudaMallocAsync(void** p, std::size_t bytes, cudaStream_t stream) {
  return is_captured(stream) ? fail(cudaErrorNotSupported) : allocate(p, bytes);
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  return is_captured(stream) ? fail(cudaErrorNotSupported) : release(p);
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = arena().limit;
  *free = arena().limit - std::min(arena().limit, arena().live_bytes);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  if (const cudaError_t status = refuse_in_capture(false); status != cudaSuccess) return status;
  *p = bytes == 0 ? nullptr : std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  return bytes == 0 || *p != nullptr ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) {
  return cudaMallocHost(p, bytes);
}
cudaError_t cudaFreeHost(void* p) {
  std::free(p);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  *pool = reinterpret_cast<cudaMemPool_t>(&arena());
  return device == 0 ? cudaSuccess : fail(cudaErrorInvalidDevice);
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
  return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) {
  return cudaSuccess;
}

namespace {

// Whether [p, p + bytes) is what a copy of this kind may touch.
bool side_is(const void* p, std::size_t bytes, bool device) {
  return device ? arena().holds(p, bytes) : !arena().in_range(p);
}

cudaError_t copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return cudaSuccess;
  bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind == cudaMemcpyDefault) {
    to_device = arena().in_range(to);
    from_device = arena().in_range(from);
  }
  if (!side_is(to, bytes, to_device) || !side_is(from, bytes, from_device))
    return fail(cudaErrorInvalidValue);
  const DeviceAccess access;
  std::memmove(to, from, bytes);
  return cudaSuccess;
}
cudaError_t fill(void* p, int value, std::size_t bytes) {
  if (bytes == 0) return cudaSuccess;
  if (!arena().holds(p, bytes)) return fail(cudaErrorInvalidValue);
  const DeviceAccess access;
  std::memset(p, value, bytes);
  return cudaSuccess;
}

// Does it, or captures it: then a launch of the graph throws what the call would have returned.
template <class Work>
cudaError_t submit(cudaStream_t stream, const char* what, const Work& work) {
  if (!is_captured(stream)) {
    wedge::emulator::count_call();
    return work();
  }
  wedge::emulator::capture_work(stream, [what, work] {
    const cudaError_t status = work();
    WEDGE_CHECK(status == cudaSuccess, "emulator: {} in a graph: {}", what, cudaGetErrorString(status));
  });
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (const cudaError_t status = refuse_in_capture(true); status != cudaSuccess) return status;
  wedge::emulator::count_call();
  return copy(to, from, bytes, kind);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return submit(stream, "a copy", [=] { return copy(to, from, bytes, kind); });
}
cudaError_t cudaMemset(void* p, int value, std::size_t bytes) {
  if (const cudaError_t status = refuse_in_capture(true); status != cudaSuccess) return status;
  wedge::emulator::count_call();
  return fill(p, value, bytes);
}
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) {
  return submit(stream, "a fill", [=] { return fill(p, value, bytes); });
}
