// cuBLAS: what it checks. products.cpp multiplies.
#include "cublas_v2.h"

#include <algorithm>

#include "products.h"

struct cublasContext {
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
  cudaStream_t stream = nullptr;
};

const char* cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_MAPPING_ERROR:
      return "CUBLAS_STATUS_MAPPING_ERROR";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "unknown";
}
const char* cublasGetStatusString(cublasStatus_t status) {
  return cublasGetStatusName(status);
}

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetVersion(cublasHandle_t, int* version) {
  *version = 130000;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetAtomicsMode(cublasHandle_t, cublasAtomicsMode_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode) {
  handle->pointer_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace(cublasHandle_t, void*, std::size_t) {
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx_64(cublasHandle_t handle, cublasOperation_t trans_a,
                                             cublasOperation_t trans_b, std::int64_t m, std::int64_t n,
                                             std::int64_t k, const void* alpha_at, const void* A,
                                             cudaDataType a_type, std::int64_t lda, long long stride_a,
                                             const void* B, cudaDataType b_type, std::int64_t ldb,
                                             long long stride_b, const void* beta_at, void* C,
                                             cudaDataType c_type, std::int64_t ldc, long long stride_c,
                                             std::int64_t batches, cublasComputeType_t, cublasGemmAlgo_t) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const bool ta = trans_a != CUBLAS_OP_N, tb = trans_b != CUBLAS_OP_N;
  const auto least = [](std::int64_t rows) { return std::max<std::int64_t>(1, rows); };
  if (m < 0 || n < 0 || k < 0 || batches < 0 || lda < least(ta ? k : m) || ldb < least(tb ? n : k) ||
      ldc < least(m))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (alpha_at == nullptr || beta_at == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const bool float_in = a_type == CUDA_R_32F, float_out = c_type == CUDA_R_32F;
  if (a_type != b_type || (!float_in && a_type != CUDA_R_16BF) || (!float_out && c_type != CUDA_R_16BF) ||
      (float_in && !float_out) || handle->pointer_mode != CUBLAS_POINTER_MODE_HOST)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  wedge::emulator::multiply(handle->stream, {.trans_a = ta,
                                             .trans_b = tb,
                                             .m = m,
                                             .n = n,
                                             .k = k,
                                             .alpha = *static_cast<const float*>(alpha_at),
                                             .A = A,
                                             .lda = lda,
                                             .stride_a = stride_a,
                                             .B = B,
                                             .ldb = ldb,
                                             .stride_b = stride_b,
                                             .float_factors = float_in,
                                             .beta = *static_cast<const float*>(beta_at),
                                             .C = C,
                                             .ldc = ldc,
                                             .stride_c = stride_c,
                                             .float_out = float_out,
                                             .batches = batches});
  return CUBLAS_STATUS_SUCCESS;
}
