// Status codes of the CUDA runtime as errors.
#pragma once

#include <cuda_runtime.h>

#include <string>

namespace wedge::cu {

// Throws wedge::Error "cuda: WHAT: WHY". Not inline, because nvcc cannot read fmt's headers.
[[noreturn]] void fail(const char* what, const std::string& why);

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // the error is told here: the next launch must not be blamed for it
  fail(what, cudaGetErrorString(status));
}

}  // namespace wedge::cu
