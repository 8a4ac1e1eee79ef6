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

// Column-major, as cuBLAS has it, the product is Cᵀ [N, M] = Bᵀ Aᵀ, with a bias for each of its rows.
template <class Out>
BiasProducts::Plan BiasProducts::make_plan(const Gemm<BFloat16, Out>& g, const Out* bias) const {
  Plan plan;
  cublasLtMatmulDesc_t operation = nullptr;
  check_blas(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
             "matmul: cublasLtMatmulDescCreate");
  plan.operation.reset(operation);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, static_cast<std::int32_t>(op_of(g.B)));
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, static_cast<std::int32_t>(op_of(g.A)));
  set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<std::uint32_t>(CUBLASLT_EPILOGUE_BIAS));
  set(operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<std::int32_t>(kBlasType<Out>));
  set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  const bool ta = g.A.transposed, tb = g.B.transposed;
  plan.a.reset(layout(CUDA_R_16BF, tb ? g.K : g.N, tb ? g.N : g.K, g.B.ld));
  plan.b.reset(layout(CUDA_R_16BF, ta ? g.M : g.K, ta ? g.K : g.M, g.A.ld));
  plan.d.reset(layout(kBlasType<Out>, g.N, g.M, g.C.ld));

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

template <class Out>
bool BiasProducts::multiply(const Gemm<BFloat16, Out>& g, const Out* bias, cudaStream_t stream) {
  if (!all_aligned(kAlignment, g.A.data, g.B.data, g.C.data, bias)) return false;
  const Key key{{g.M, g.N, g.K, g.A.ld, g.B.ld, g.C.ld},
                {g.A.transposed, g.B.transposed, static_cast<int>(kBlasType<Out>)}};
  auto at = plans_.find(key);
  if (at == plans_.end()) at = plans_.emplace(key, make_plan(g, bias)).first;
  const Plan& plan = at->second;
  if (!plan.found) return false;
  set(plan.operation.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  check_blas(cublasLtMatmul(handle_, plan.operation.get(), &g.alpha, g.B.data, plan.a.get(), g.A.data,
                            plan.b.get(), &g.beta, g.C.data, plan.d.get(), g.C.data, plan.d.get(),
                            &plan.algorithm, workspace_, bytes_, stream),
             "matmul: cublasLtMatmul");
  return true;
}

template bool BiasProducts::multiply(const Gemm<BFloat16, float>&, const float*, cudaStream_t);
template bool BiasProducts::multiply(const Gemm<BFloat16>&, const BFloat16*, cudaStream_t);

}  // namespace wedge::cu
