// What the files that call cuBLAS share.
#pragma once

#include <cublas_v2.h>

#include <type_traits>

#include "kernels/cuda/common.cuh"
#include "tensor/cuda/gpu.h"

namespace wedge::cu {

inline void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) fail(what, cublasGetStatusString(status));
}

template <class T>
inline constexpr cudaDataType_t kBlasType = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_16BF;

}  // namespace wedge::cu
