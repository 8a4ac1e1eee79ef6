// Products in float32: op(A) is copied to float32 columns, and every column of C is a sum of them.
#include "cublas_v2.h"

#include <algorithm>
#include <vector>

#include "tensor/check.h"
#include "tensor/dtype.h"

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

namespace wedge::emulator {
namespace {

// A column-major matrix, one of a batch.
struct Matrix {
  const void* data;
  bool is_float;
  std::int64_t rows, columns, ld;
  long long stride;

  std::int64_t offset(std::int64_t batch, std::int64_t i, std::int64_t j) const {
    return batch * stride + j * ld + i;
  }
  float at(std::int64_t batch, std::int64_t i, std::int64_t j) const {
    const std::int64_t at = offset(batch, i, j);
    return is_float ? static_cast<const float*>(data)[at]
                    : static_cast<float>(static_cast<const BFloat16*>(data)[at]);
  }
  void check_in_device_memory(const char* name, std::int64_t batches) const {
    if (rows == 0 || columns == 0) return;
    const std::size_t element = is_float ? sizeof(float) : sizeof(BFloat16);
    WEDGE_CHECK(reinterpret_cast<std::uintptr_t>(data) % element == 0, "emulator: gemm: {} is not aligned",
                name);
    const auto bytes = static_cast<std::size_t>((columns - 1) * ld + rows) * element;
    for (std::int64_t b = 0; b < batches; ++b)
      WEDGE_CHECK(
          is_device_memory(static_cast<const char*>(data) + b * stride * static_cast<long long>(element),
                           bytes),
          "emulator: gemm: {} of batch {}, [{}, {}] with leading dimension {}, is not in one block of device "
          "memory",
          name, b, rows, columns, ld);
  }
};

// y += x0 b0 + x1 b1 + x2 b2 + x3 b3, in this order.
void add_columns(std::int64_t n, const float* x, std::int64_t between, const float* b,
                 float* __restrict__ y) {
  const float *x0 = x, *x1 = x + between, *x2 = x + 2 * between, *x3 = x + 3 * between;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i)
    y[i] = y[i] + x0[i] * b[0] + x1[i] * b[1] + x2[i] * b[2] + x3[i] * b[3];
}

}  // namespace
}  // namespace wedge::emulator

cublasStatus_t cublasGemmStridedBatchedEx_64(cublasHandle_t handle, cublasOperation_t trans_a,
                                             cublasOperation_t trans_b, std::int64_t m, std::int64_t n,
                                             std::int64_t k, const void* alpha_at, const void* A,
                                             cudaDataType a_type, std::int64_t lda, long long stride_a,
                                             const void* B, cudaDataType b_type, std::int64_t ldb,
                                             long long stride_b, const void* beta_at, void* C,
                                             cudaDataType c_type, std::int64_t ldc, long long stride_c,
                                             std::int64_t batches, cublasComputeType_t, cublasGemmAlgo_t) {
  using wedge::emulator::Matrix;
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
  if (m == 0 || n == 0 || batches == 0) return CUBLAS_STATUS_SUCCESS;

  const float alpha = *static_cast<const float*>(alpha_at), beta = *static_cast<const float*>(beta_at);
  const Matrix a{A, float_in, ta ? k : m, ta ? m : k, lda, stride_a};
  const Matrix b{B, float_in, tb ? n : k, tb ? k : n, ldb, stride_b};
  const Matrix c{C, float_out, m, n, ldc, stride_c};
  const bool reads = alpha != 0 && k > 0;
  if (reads) {
    a.check_in_device_memory("A", batches);
    b.check_in_device_memory("B", batches);
  }
  c.check_in_device_memory("C", batches);

  const auto multiply = [=] {
    const wedge::emulator::DeviceAccess access;
    std::vector<float> columns(static_cast<std::size_t>(reads ? m * k : 0)), sum(static_cast<std::size_t>(m)),
        factors(static_cast<std::size_t>(k));
    for (std::int64_t batch = 0; batch < batches; ++batch) {
      if (reads)
        for (std::int64_t l = 0; l < k; ++l)
          for (std::int64_t i = 0; i < m; ++i)
            columns[l * m + i] = ta ? a.at(batch, l, i) : a.at(batch, i, l);
      for (std::int64_t j = 0; j < n; ++j) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        if (reads) {
          for (std::int64_t l = 0; l < k; ++l) factors[l] = tb ? b.at(batch, j, l) : b.at(batch, l, j);
          std::int64_t l = 0;
          for (; l + 4 <= k; l += 4)
            wedge::emulator::add_columns(m, &columns[l * m], m, &factors[l], sum.data());
          for (; l < k; ++l)
            for (std::int64_t i = 0; i < m; ++i) sum[i] += columns[l * m + i] * factors[l];
        }
        for (std::int64_t i = 0; i < m; ++i) {
          float result = alpha * sum[i];
          if (beta != 0) result += beta * c.at(batch, i, j);
          if (float_out) {
            static_cast<float*>(C)[c.offset(batch, i, j)] = result;
          } else {
            static_cast<wedge::BFloat16*>(C)[c.offset(batch, i, j)] = wedge::BFloat16(result);
          }
        }
      }
    }
    wedge::emulator::check_memory();
  };
  if (wedge::emulator::is_captured(handle->stream)) {
    wedge::emulator::capture_work(multiply);
  } else {
    wedge::emulator::count_call();
    multiply();
  }
  return CUBLAS_STATUS_SUCCESS;
}
