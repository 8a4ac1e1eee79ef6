// How an operation reaches the kernels of a device.
#pragma once

#include "tensor/device.h"

namespace wedge {

#if defined(WEDGE_WITH_CUDA)
inline constexpr bool kWithCuda = true;
#else
inline constexpr bool kWithCuda = false;
#endif

// Where a kernel runs: the device and, on CUDA, its stream.
struct Exec {
  Device device = Device::cpu;
  void* stream = nullptr;
};

}  // namespace wedge

// Declares the kernel `name(exec, args)` for the argument struct template `Args`: one in namespace cpu, one
// in namespace cu with the same signature, and the dispatch between them. A build without CUDA never refers
// to cu::name.
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
    if constexpr (kWithCuda) {                                         \
      if (exec.device == Device::cuda) return cu::name<T>(exec, args); \
    }                                                                  \
    cpu::name<T>(exec, args);                                          \
  }

// In cpu/<op>.cpp: instantiates it for the two types that the CPU computes in.
#define WEDGE_INSTANTIATE_CPU(name, Args)                          \
  template void cpu::name<float>(const Exec&, const Args<float>&); \
  template void cpu::name<double>(const Exec&, const Args<double>&);
