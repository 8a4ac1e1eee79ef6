// How an operation reaches the kernels of a device.
#pragma once

#include <type_traits>

#include "tensor/device.h"
#include "tensor/dtype.h"
#include "tensor/host_device.h"

namespace wedge {

// The types that kernels of a device compute in.
template <class T>
inline constexpr bool kOnCpu = std::is_same_v<T, float> || std::is_same_v<T, double>;
template <class T>
inline constexpr bool kOnCuda = std::is_same_v<T, float> || std::is_same_v<T, BFloat16>;

// What statistics, losses and gradients of parameters are kept in for inputs of type T: float32 or wider.
template <class T>
using Stat = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Where a kernel's result goes, with = or, if `add` is set, +=: in the structs of arguments "(+)=". Null
// where it is not wanted.
template <class T>
struct Sink {
  T* data = nullptr;
  bool add = false;
  WEDGE_HOST_DEVICE explicit operator bool() const { return data != nullptr; }
};

// Where a kernel runs: the device and, on CUDA, its stream.
struct Exec {
  Device device = Device::cpu;
  void* stream = nullptr;
  bool bf16_products = false;  // CUDA: products of float factors are of bfloat16 copies, sums in float32
  // CPU: the same, where the processor has a unit for them and that is faster (cpu/amx_tile.h).
  bool bf16_products_on_cpu = false;
};

// Throws wedge::Error: `kernel` has no version for this type on this device.
[[noreturn]] void refuse(const char* kernel, DType dtype, Device device);

}  // namespace wedge

// Declares the kernel `name(exec, args)` for the argument struct template `Args`: one in namespace cpu, one
// in namespace cu with the same signature, and the dispatch between them. A build without CUDA never refers
// to cu::name, and neither device is asked for a type that it does not compute in.
#define WEDGE_KERNEL(name, Args)                                       \
  namespace cpu {                                                      \
  template <class T>                                                   \
  void name(const Exec& exec, const Args<T>& args);                    \
  }                                                                    \
  namespace cu {                                                       \
  template <class T>                                                   \
  void name(const Exec& exec, const Args<T>& args);                    \
  }                                                                    \
  template <class T>                                                   \
  void name(const Exec& exec, const Args<T>& args) {                   \
    if constexpr (kWithCuda && kOnCuda<T>) {                           \
      if (exec.device == Device::cuda) return cu::name<T>(exec, args); \
    }                                                                  \
    if constexpr (kOnCpu<T>) {                                         \
      if (exec.device == Device::cpu) return cpu::name<T>(exec, args); \
    }                                                                  \
    refuse(#name, dtype_of<T>, exec.device);                           \
  }

// In cpu/<op>.cpp: instantiates it for the two types that the CPU computes in.
#define WEDGE_INSTANTIATE_CPU(name, Args)                          \
  template void cpu::name<float>(const Exec&, const Args<float>&); \
  template void cpu::name<double>(const Exec&, const Args<double>&);
