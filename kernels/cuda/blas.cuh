// What the files that call cuBLAS share.
#pragma once

#include <cublas_v2.h>

#include <type_traits>

#include "kernels/cuda/common.cuh"
#include "kernels/matmul.h"
#include "tensor/cuda/gpu.h"

namespace wedge::cu {

inline void check_blas(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) fail(what, cublasGetStatusString(status));
}

template <class T>
inline constexpr cudaDataType_t kBlasType = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_16BF;

template <class T>
cublasOperation_t op_of(const GemmOperand<T>& x) {
  return x.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
}

}  // namespace wedge::cu
