// The plans of cuBLASLt's products. Of the algorithms that its heuristic knows, those that split k may add
// the parts only in float32 in a pass of their own, which has one order: the same bits whatever runs first.
#include "kernels/cuda/blas_bias.cuh"

#include "kernels/cuda/common.cuh"

namespace wedge::cu {
namespace {

// Bytes that pointers must be aligned to, what the widest loads take. cuBLASLt can be told so of the
// matrices, to choose its kernels by; of the bias it can't, and reads it as widely.
constexpr std::uint32_t kAlignment = 16;

template <class Value>
void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
  check_blas(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)),
             "matmul: cublasLtMatmulDescSetAttribute");
}

template <class Value>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const Value& value) {
  check_blas(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
             "matmul: cublasLtMatmulPreferenceSetAttribute");
}

cublasLtMatrixLayout_t layout(cudaDataType_t type, std::int64_t rows, std::int64_t columns, std::int64_t ld) {
  cublasLtMatrixLayout_t made = nullptr;
  check_blas(cublasLtMatrixLayoutCreate(&made, type, static_cast<std::uint64_t>(rows),
                                        static_cast<std::uint64_t>(columns), ld),
             "matmul: cublasLtMatrixLayoutCreate");
  return made;
}

}  // namespace

BiasProducts::BiasProducts(void* workspace, std::size_t bytes) : workspace_(workspace), bytes_(bytes) {
  check_blas(cublasLtCreate(&handle_), "matmul: cublasLtCreate");
}

BiasProducts::Plan BiasProducts::make_plan(const BiasProduct& p) const {
  Plan plan;
  cublasLtMatmulDesc_t operation = nullptr;
  check_blas(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
             "matmul: cublasLtMatmulDescCreate");
  plan.operation.reset(operation);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, static_cast<std::int32_t>(p.trans_a));
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, static_cast<std::int32_t>(p.trans_b));
  set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<std::uint32_t>(CUBLASLT_EPILOGUE_BIAS));
  set(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<std::int32_t>(p.type));
  set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  const bool ta = p.trans_a != CUBLAS_OP_N, tb = p.trans_b != CUBLAS_OP_N;
  plan.a.reset(layout(CUDA_R_16BF, ta ? p.k : p.m, ta ? p.m : p.k, p.lda));
  plan.b.reset(layout(CUDA_R_16BF, tb ? p.n : p.k, tb ? p.k : p.n, p.ldb));
  plan.d.reset(layout(p.type, p.m, p.n, p.ldd));

  cublasLtMatmulPreference_t made = nullptr;
  check_blas(cublasLtMatmulPreferenceCreate(&made), "matmul: cublasLtMatmulPreferenceCreate");
  const Handle<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy> preference(made);
  set(preference.get(), CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(bytes_));
  set(preference.get(), CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto matrix :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(preference.get(), matrix, kAlignment);
  cublasLtMatmulHeuristicResult_t best{};
  int results = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle_, operation, plan.a.get(), plan.b.get(), plan.d.get(),
                                     plan.d.get(), preference.get(), 1, &best, &results);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) check_blas(status, "matmul: cublasLtMatmulAlgoGetHeuristic");
  plan.algorithm = best.algo;
  plan.found = status == CUBLAS_STATUS_SUCCESS && results > 0 && best.state == CUBLAS_STATUS_SUCCESS;
  return plan;
}

bool BiasProducts::multiply(const BiasProduct& p, cudaStream_t stream) {
  if (!all_aligned(kAlignment, p.A, p.B, p.D, p.bias)) return false;
  const Key key{{p.m, p.n, p.k, p.lda, p.ldb, p.ldd}, {p.trans_a, p.trans_b, static_cast<int>(p.type)}};
  auto at = plans_.find(key);
  if (at == plans_.end()) at = plans_.emplace(key, make_plan(p)).first;
  const Plan& plan = at->second;
  if (!plan.found) return false;
  set(plan.operation.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  check_blas(
      cublasLtMatmul(handle_, plan.operation.get(), &p.alpha, p.A, plan.a.get(), p.B, plan.b.get(), &p.beta,
                     p.D, plan.d.get(), p.D, plan.d.get(), &plan.algorithm, workspace_, bytes_, stream),
      "matmul: cublasLtMatmul");
  return true;
}

}  // namespace wedge::cu
