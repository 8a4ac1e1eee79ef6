// cuBLASLt: what it checks, and which products have an algorithm. products.cpp multiplies.
#include "cublasLt.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "products.h"
#include "tensor/check.h"

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque_t {
  std::int32_t trans_a = CUBLAS_OP_N, trans_b = CUBLAS_OP_N;
  std::uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
  std::int32_t bias_type = -1;
};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType type;
  std::int64_t rows, columns, ld;
};
struct cublasLtMatmulPreferenceOpaque_t {
  std::uint64_t workspace = 0;
  std::uint32_t reductions = 7;
  std::uint32_t alignments[4] = {256, 256, 256, 256};  // of A, B, C, D
};

namespace {

// What an algorithm is for, and what it asks for.
struct Algorithm {
  std::int32_t m, n, k, lda, ldb, ldd;
  std::int32_t kinds;  // both op, D's type, the epilogue
  std::uint32_t alignments[4];
  std::uint32_t workspace;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

constexpr std::uint32_t kWorkspace = 1 << 20;

// The attribute's value, where it has the size that is due.
template <class Value>
cublasStatus_t take(Value& to, const void* value, std::size_t bytes) {
  if (value == nullptr || bytes != sizeof(Value)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

bool same(const cublasLtMatrixLayoutOpaque_t& x, const cublasLtMatrixLayoutOpaque_t& y) {
  return x.type == y.type && x.rows == y.rows && x.columns == y.columns && x.ld == y.ld;
}

// Checks the operation and its matrices, and fills in all of `algorithm` but its demands.
cublasStatus_t describe(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                        cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                        Algorithm& algorithm) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (desc == nullptr || a == nullptr || b == nullptr || c == nullptr || d == nullptr || !same(*c, *d))
    return CUBLAS_STATUS_INVALID_VALUE;
  const bool ta = desc->trans_a != CUBLAS_OP_N, tb = desc->trans_b != CUBLAS_OP_N;
  const std::int64_t m = ta ? a->columns : a->rows, k = ta ? a->rows : a->columns;
  const std::int64_t n = tb ? b->rows : b->columns, k_of_b = tb ? b->columns : b->rows;
  if (k != k_of_b || d->rows != m || d->columns != n) return CUBLAS_STATUS_INVALID_VALUE;
  if (a->type != CUDA_R_16BF || b->type != CUDA_R_16BF) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (d->type != CUDA_R_32F && d->type != CUDA_R_16BF) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (desc->epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
    if (desc->bias == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
    if (desc->bias_type != -1 && desc->bias_type != d->type) return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  algorithm = {};
  const auto narrow = [](std::int64_t size) { return static_cast<std::int32_t>(size); };
  algorithm.m = narrow(m);
  algorithm.n = narrow(n);
  algorithm.k = narrow(k);
  algorithm.lda = narrow(a->ld);
  algorithm.ldb = narrow(b->ld);
  algorithm.ldd = narrow(d->ld);
  algorithm.kinds = ta + 2 * tb + 4 * d->type + 1024 * static_cast<std::int32_t>(desc->epilogue);
  return CUBLAS_STATUS_SUCCESS;
}

bool aligned(const void* p, std::uint32_t bytes) {
  return reinterpret_cast<std::uintptr_t>(p) % bytes == 0;
}

}  // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute,
                                        cudaDataType_t scale_type) {
  if (compute != CUBLAS_COMPUTE_32F || scale_type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *desc = new cublasLtMatmulDescOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              std::size_t bytes) {
  if (desc == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  cublasLtMatmulDescOpaque_t changed = *desc;
  cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      status = take(changed.trans_a, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_TRANSB:
      status = take(changed.trans_b, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      status = take(changed.epilogue, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      status = take(changed.bias, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      status = take(changed.bias_type, value, bytes);
      break;
  }
  const auto is_op = [](std::int32_t op) { return op == CUBLAS_OP_N || op == CUBLAS_OP_T; };
  const std::uint32_t e = changed.epilogue;
  const bool known = e == CUBLASLT_EPILOGUE_DEFAULT || e == CUBLASLT_EPILOGUE_BIAS;
  if (!known || !is_op(changed.trans_a) || !is_op(changed.trans_b)) return CUBLAS_STATUS_INVALID_VALUE;
  if (status == CUBLAS_STATUS_SUCCESS) *desc = changed;
  return status;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          std::uint64_t rows, std::uint64_t columns, std::int64_t ld) {
  if (rows == 0 || columns == 0 || ld < static_cast<std::int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = new cublasLtMatrixLayoutOpaque_t{type, static_cast<std::int64_t>(rows),
                                             static_cast<std::int64_t>(columns), ld};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  if (preference == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(preference->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return take(preference->reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return take(preference->alignments[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value,
                  bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* found) {
  Algorithm algorithm;
  const cublasStatus_t status = describe(handle, desc, a, b, c, d, algorithm);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (preference == nullptr || wanted < 1 || results == nullptr || found == nullptr)
    return CUBLAS_STATUS_INVALID_VALUE;
  WEDGE_CHECK(
      (preference->reductions & ~static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)) == 0,
      "emulator: matmul: reductions {} may not give the same bits twice", preference->reductions);
  *found = 0;
  std::copy_n(preference->alignments, 4, algorithm.alignments);
  algorithm.workspace = kWorkspace;
  if (preference->workspace < kWorkspace) return CUBLAS_STATUS_NOT_SUPPORTED;
  const auto on_16_bytes = [&](int which, const cublasLtMatrixLayoutOpaque_t& m) {
    return preference->alignments[which] % 16 == 0 && m.ld * (m.type == CUDA_R_32F ? 4 : 2) % 16 == 0;
  };
  if (desc->epilogue != CUBLASLT_EPILOGUE_DEFAULT &&
      !(on_16_bytes(0, *a) && on_16_bytes(1, *b) && on_16_bytes(3, *d)))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {};
  results[0].state = CUBLAS_STATUS_SUCCESS;
  results[0].workspaceSize = kWorkspace;
  std::memcpy(&results[0].algo, &algorithm, sizeof(algorithm));
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* A, cublasLtMatrixLayout_t a, const void* B,
                              cublasLtMatrixLayout_t b, const void* beta, const void* C,
                              cublasLtMatrixLayout_t c, void* D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, std::size_t bytes,
                              cudaStream_t stream) {
  Algorithm wanted, given;
  const cublasStatus_t status = describe(handle, desc, a, b, c, d, wanted);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (alpha == nullptr || beta == nullptr || algorithm == nullptr || C != D)
    return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&given, algorithm, sizeof(given));
  WEDGE_CHECK(std::memcmp(&wanted, &given, offsetof(Algorithm, alignments)) == 0,
              "emulator: matmul: the algorithm is of another product");
  WEDGE_CHECK(aligned(A, given.alignments[0]) && aligned(B, given.alignments[1]) &&
                  aligned(C, given.alignments[2]) && aligned(D, given.alignments[3]),
              "emulator: matmul: the algorithm wants matrices aligned to {}, {}, {} and {} bytes",
              given.alignments[0], given.alignments[1], given.alignments[2], given.alignments[3]);
  // No preference tells of it, and its kernels read 16 bytes at a time.
  WEDGE_CHECK(desc->epilogue != CUBLASLT_EPILOGUE_BIAS || aligned(desc->bias, 16),
              "emulator: matmul: the bias is not aligned to 16 bytes");
  WEDGE_CHECK(bytes >= given.workspace && wedge::emulator::is_device_memory(workspace, bytes),
              "emulator: matmul: no workspace of {} bytes in device memory", given.workspace);
  wedge::emulator::multiply(stream,
                            {.trans_a = desc->trans_a != CUBLAS_OP_N,
                             .trans_b = desc->trans_b != CUBLAS_OP_N,
                             .m = wanted.m,
                             .n = wanted.n,
                             .k = wanted.k,
                             .alpha = *static_cast<const float*>(alpha),
                             .A = A,
                             .lda = a->ld,
                             .B = B,
                             .ldb = b->ld,
                             .beta = *static_cast<const float*>(beta),
                             .C = D,
                             .ldc = d->ld,
                             .float_out = d->type == CUDA_R_32F,
                             .float_bias = d->type == CUDA_R_32F,
                             .bias = desc->epilogue == CUBLASLT_EPILOGUE_BIAS ? desc->bias : nullptr});
  return CUBLAS_STATUS_SUCCESS;
}
