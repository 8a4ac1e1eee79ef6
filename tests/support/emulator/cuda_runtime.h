// The words of CUDA that wedge uses, with the emulator's meanings. A word that is not here (__shared__,
// <<<>>>) does not compile: tensor/cuda/launch.cuh has another for it.
#pragma once

#include <math.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulator.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

inline constexpr int warpSize = 32;

// ---- vectors

#define WEDGE_VECTOR(type, T2, T4)                              \
  struct alignas(2 * sizeof(type)) T2 {                         \
    type x, y;                                                  \
  };                                                            \
  struct alignas(sizeof(type) < 8 ? 4 * sizeof(type) : 16) T4 { \
    type x, y, z, w;                                            \
  };                                                            \
  inline T2 make_##T2(type x, type y) {                         \
    return {x, y};                                              \
  }                                                             \
  inline T4 make_##T4(type x, type y, type z, type w) {         \
    return {x, y, z, w};                                        \
  }
WEDGE_VECTOR(float, float2, float4)
WEDGE_VECTOR(double, double2, double4)
WEDGE_VECTOR(int, int2, int4)
WEDGE_VECTOR(unsigned, uint2, uint4)
WEDGE_VECTOR(short, short2, short4)
WEDGE_VECTOR(unsigned short, ushort2, ushort4)
#undef WEDGE_VECTOR

// ---- arithmetic that C++ does not have; the rest comes from <math.h>

namespace wedge::emulator {
// A result of the GPU's that may be off by so many units in the last place is: by how many is drawn from the
// argument, so that equal ones have equal results. Numbers that are not normal are exact.
inline float off_by_at_most(int units, float exact, float x) noexcept {
  if (!std::isnormal(exact)) return exact;
  const std::uint32_t mixed = std::bit_cast<std::uint32_t>(x) * 0x9E3779B1u;
  const auto drawn = static_cast<int>((mixed ^ mixed >> 15) * 0x85EBCA77u >> 16);
  return std::bit_cast<float>(std::bit_cast<std::int32_t>(exact) + drawn % (2 * units + 1) - units);
}
}  // namespace wedge::emulator

extern "C" {
inline float rsqrtf(float x) noexcept {
  return wedge::emulator::off_by_at_most(2, 1.0f / sqrtf(x), x);
}
inline double rsqrt(double x) noexcept {
  return 1.0 / sqrt(x);
}
inline float __expf(float x) noexcept {
  return expf(x);
}
inline float __logf(float x) noexcept {
  return logf(x);
}
}
inline float __fdividef(float x, float y) {
  return wedge::emulator::off_by_at_most(2, x / y, y);
}
// A call, so that no compiler makes one step of it and a sum.
[[gnu::noinline]] inline float __fmul_rn(float x, float y) noexcept {
  return x * y;
}
inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
inline float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}
inline int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
inline float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __clz(int x) {
  return std::countl_zero(static_cast<unsigned>(x));
}
inline int __ffs(int x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1;
}
inline unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>((std::uint64_t{x} * y) >> 32);
}

#define WEDGE_MIN_MAX(type)         \
  inline type min(type x, type y) { \
    return y < x ? y : x;           \
  }                                 \
  inline type max(type x, type y) { \
    return x < y ? y : x;           \
  }
WEDGE_MIN_MAX(int)
WEDGE_MIN_MAX(unsigned)
WEDGE_MIN_MAX(long)
WEDGE_MIN_MAX(unsigned long)
WEDGE_MIN_MAX(long long)
WEDGE_MIN_MAX(unsigned long long)
#undef WEDGE_MIN_MAX
inline float min(float x, float y) {
  return fminf(x, y);
}
inline float max(float x, float y) {
  return fmaxf(x, y);
}
inline double min(double x, double y) {
  return fmin(x, y);
}
inline double max(double x, double y) {
  return fmax(x, y);
}

// ---- memory: blocks run one after another and threads switch only where they wait, so a plain access is
// atomic

template <class T>
T __ldg(const T* p) {
  return *p;
}
inline void __threadfence() {}
inline void __threadfence_block() {}

#define WEDGE_ATOMIC(name, type, result) \
  inline type name(type* p, type x) {    \
    const type old = *p;                 \
    *p = result;                         \
    return old;                          \
  }
#define WEDGE_ATOMICS(type)                        \
  WEDGE_ATOMIC(atomicAdd, type, old + x)           \
  WEDGE_ATOMIC(atomicExch, type, x)                \
  WEDGE_ATOMIC(atomicMax, type, old < x ? x : old) \
  WEDGE_ATOMIC(atomicMin, type, x < old ? x : old)
WEDGE_ATOMICS(int)
WEDGE_ATOMICS(unsigned)
WEDGE_ATOMICS(unsigned long long)
WEDGE_ATOMIC(atomicAdd, float, old + x)
WEDGE_ATOMIC(atomicExch, float, x)
WEDGE_ATOMIC(atomicAdd, double, old + x)
#undef WEDGE_ATOMICS
#undef WEDGE_ATOMIC
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> x) {
  static_assert(std::is_integral_v<T>);
  const T old = *p;
  if (old == expected) *p = x;
  return old;
}

// ---- threads that wait for each other; the last two parameters say where, in reports

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  wedge::emulator::barrier(file, line);
}

inline void __syncwarp(unsigned mask = ~0u, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  wedge::emulator::collective({"__syncwarp", [](void* const*, unsigned) {}}, mask, nullptr, file, line);
}

namespace wedge::emulator {

enum class Shuffle { index, up, down, butterfly };

struct ShuffleRecord {
  std::uint64_t value, result;
  Shuffle how;
  int operand, width;
};
void complete_shuffle(void* const* records, unsigned mask);

template <class T>
T shuffle(const char* name, Shuffle how, unsigned mask, T value, int operand, int width, const char* file,
          int line) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "shuffles move 4 or 8 bytes");
  ShuffleRecord record{0, 0, how, operand, width};
  std::memcpy(&record.value, &value, sizeof value);
  collective({name, complete_shuffle}, mask, &record, file, line);
  std::memcpy(&value, &record.result, sizeof value);
  return value;
}

struct VoteRecord {
  bool value;
  unsigned ballot;
};
void complete_vote(void* const* records, unsigned mask);

inline unsigned vote(const char* name, unsigned mask, bool value, const char* file, int line) {
  VoteRecord record{value, 0};
  collective({name, complete_vote}, mask, &record, file, line);
  return record.ballot;
}

}  // namespace wedge::emulator

#define WEDGE_SHUFFLE(name, how)                                                                             \
  template <class T>                                                                                         \
  T name(unsigned mask, T value, int operand, int width = 32, const char* file = __builtin_FILE(),           \
         int line = __builtin_LINE()) {                                                                      \
    return wedge::emulator::shuffle(#name, wedge::emulator::Shuffle::how, mask, value, operand, width, file, \
                                    line);                                                                   \
  }
WEDGE_SHUFFLE(__shfl_sync, index)
WEDGE_SHUFFLE(__shfl_up_sync, up)
WEDGE_SHUFFLE(__shfl_down_sync, down)
WEDGE_SHUFFLE(__shfl_xor_sync, butterfly)
#undef WEDGE_SHUFFLE

inline unsigned __ballot_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  return wedge::emulator::vote("__ballot_sync", mask, predicate != 0, file, line);
}
inline int __any_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                      int line = __builtin_LINE()) {
  return wedge::emulator::vote("__any_sync", mask, predicate != 0, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                      int line = __builtin_LINE()) {
  return wedge::emulator::vote("__all_sync", mask, predicate != 0, file, line) == mask;
}

// ---- the host's side. Everything is done when a call returns.

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorIllegalState = 401,
  cudaErrorNotReady = 600,
  cudaErrorNotSupported = 801,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureUnjoined = 904,
  cudaErrorStreamCaptureIsolation = 905,
  cudaErrorCapturedEvent = 907
};
const char* cudaGetErrorString(cudaError_t status);
const char* cudaGetErrorName(cudaError_t status);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor;
  int major, minor, multiProcessorCount, warpSize, maxThreadsPerBlock, regsPerBlock, l2CacheSize;
};
enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDeviceSynchronize();

cudaError_t cudaMalloc(void** p, std::size_t bytes);
cudaError_t cudaFree(void* p);
cudaError_t cudaMallocAsync(void** p, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream);
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total);
template <class T>
cudaError_t cudaMalloc(T** p, std::size_t bytes) {
  return cudaMalloc(reinterpret_cast<void**>(p), bytes);
}
template <class T>
cudaError_t cudaMallocAsync(T** p, std::size_t bytes, cudaStream_t stream) {
  return cudaMallocAsync(reinterpret_cast<void**>(p), bytes, stream);
}

inline constexpr unsigned cudaHostAllocDefault = 0;
cudaError_t cudaMallocHost(void** p, std::size_t bytes);
cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* p);

using cudaMemPool_t = struct CUmemPoolHandle_st*;
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold = 4 };
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value);
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, std::size_t bytes_to_keep);

enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4
};
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void* p, int value, std::size_t bytes);
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream = nullptr);

inline constexpr unsigned cudaStreamDefault = 0, cudaStreamNonBlocking = 1;
cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority);
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);

using cudaEvent_t = struct CUevent_st*;
inline constexpr unsigned cudaEventDefault = 0, cudaEventDisableTiming = 2;
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);

// One capture at a time, of one stream and those that wait for it.
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;
using cudaGraphNode_t = struct CUgraphNode_st*;
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2
};
enum cudaGraphInstantiateFlags { cudaGraphInstantiateFlagUseNodePriority = 8 };
enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone = 0,
  cudaStreamCaptureStatusActive = 1,
  cudaStreamCaptureStatusInvalidated = 2
};
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
