// The emulator's cuBLASLt: what an epilogue does, and that nothing slips through that the library would
// refuse or, worse, take.
#include "tests/support/emulator/cublasLt.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "tensor/dtype.h"
#include "tests/emulator/device_array.h"
#include "tests/support/catch.h"

using namespace wedge;
using namespace wedge::emulator_test;
using Catch::Matchers::ContainsSubstring;

namespace {

// D [m, n] = op(A) · op(B) with an epilogue, and all that goes with it.
struct Call {
  cublasOperation_t trans_a = CUBLAS_OP_N, trans_b = CUBLAS_OP_N;
  int m = 8, n = 24, k = 16;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  cudaDataType_t type = CUDA_R_32F;
  std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, alignment = 256;

  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
  cublasLtMatmulHeuristicResult_t best{};

  Call() { REQUIRE(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() {
    clear();
    cublasLtDestroy(handle);
  }
  void clear() {
    cublasLtMatmulDescDestroy(desc);
    for (cublasLtMatrixLayout_t layout : {a, b, d}) cublasLtMatrixLayoutDestroy(layout);
    desc = nullptr;
    a = b = d = nullptr;
  }

  template <class Value>
  cublasStatus_t set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    return cublasLtMatmulDescSetAttribute(desc, attribute, &value, sizeof(value));
  }

  // Asks for an algorithm.
  cublasStatus_t plan(void* vector) {
    clear();
    REQUIRE(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(set(CUBLASLT_MATMUL_DESC_TRANSA, std::int32_t{trans_a}) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(set(CUBLASLT_MATMUL_DESC_TRANSB, std::int32_t{trans_b}) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(set(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint32_t{epilogue}) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, vector) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, std::int32_t{type}) == CUBLAS_STATUS_SUCCESS);
    const bool ta = trans_a == CUBLAS_OP_T, tb = trans_b == CUBLAS_OP_T;
    const auto layout = [](cublasLtMatrixLayout_t& to, cudaDataType_t of, int rows, int columns) {
      REQUIRE(cublasLtMatrixLayoutCreate(&to, of, static_cast<std::uint64_t>(rows),
                                         static_cast<std::uint64_t>(columns), rows) == CUBLAS_STATUS_SUCCESS);
    };
    layout(a, CUDA_R_16BF, ta ? k : m, ta ? m : k);
    layout(b, CUDA_R_16BF, tb ? n : k, tb ? k : n);
    layout(d, type, m, n);
    cublasLtMatmulPreference_t preference;
    REQUIRE(cublasLtMatmulPreferenceCreate(&preference) == CUBLAS_STATUS_SUCCESS);
    // What is refused throws.
    const std::unique_ptr<std::remove_pointer_t<cublasLtMatmulPreference_t>,
                          decltype(&cublasLtMatmulPreferenceDestroy)>
        owner(preference, cublasLtMatmulPreferenceDestroy);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      REQUIRE(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)) ==
              CUBLAS_STATUS_SUCCESS);
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{1} << 20);
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, desc, a, b, d, d, preference, 1, &best, &found);
    CHECK(found == (status == CUBLAS_STATUS_SUCCESS ? 1 : 0));
    return status;
  }

  cublasStatus_t run(const void* A, const void* B, void* D, void* workspace) {
    const float alpha = 1, zero = 0;
    return cublasLtMatmul(handle, desc, &alpha, A, a, B, b, &zero, D, d, D, d, &best.algo, workspace,
                          std::size_t{1} << 20, nullptr);
  }
};

const std::vector<BFloat16> kNumbers = [] {
  std::vector<BFloat16> numbers;
  for (int i = 0; i < 1024; ++i)
    numbers.emplace_back(static_cast<float>(i * 37 % 61 - 30));  // small integers
  return numbers;
}();

float number(int i) {
  return static_cast<float>(kNumbers[static_cast<std::size_t>(i)]);
}

}  // namespace

TEST_CASE("emulator: a bias beside a product", "[emulator]") {
  const DeviceArray<BFloat16> a(kNumbers), b(kNumbers);
  const DeviceArray<char> workspace(std::size_t{1} << 20);
  for (const auto ta : {CUBLAS_OP_N, CUBLAS_OP_T})
    for (const auto tb : {CUBLAS_OP_N, CUBLAS_OP_T})
      for (const auto epilogue : {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS}) {
        CAPTURE(int{ta}, int{tb}, int{epilogue});
        Call call;
        call.trans_a = ta;
        call.trans_b = tb;
        call.epilogue = epilogue;
        const int m = call.m, n = call.n, k = call.k;
        const bool adds = epilogue == CUBLASLT_EPILOGUE_BIAS;
        const std::vector<float> start(static_cast<std::size_t>(m), 5.0f);
        const DeviceArray<float> d(static_cast<std::size_t>(m * n)), vector(start);
        REQUIRE(call.plan(vector.data()) == CUBLAS_STATUS_SUCCESS);
        REQUIRE(call.run(a.data(), b.data(), d.data(), workspace.data()) == CUBLAS_STATUS_SUCCESS);
        const auto A = [&](int i, int l) { return number(ta == CUBLAS_OP_T ? i * k + l : l * m + i); };
        const auto B = [&](int l, int j) { return number(tb == CUBLAS_OP_T ? l * n + j : j * k + l); };
        std::vector<float> product;
        for (int j = 0; j < n; ++j)
          for (int i = 0; i < m; ++i) {
            float sum = adds ? 5.0f : 0.0f;
            for (int l = 0; l < k; ++l) sum += A(i, l) * B(l, j);
            product.push_back(sum);
          }
        CHECK(d.values() == product);
        CHECK(vector.values() == start);
      }
}

TEST_CASE("emulator: cuBLASLt's arguments are checked", "[emulator]") {
  const DeviceArray<BFloat16> a(kNumbers), b(kNumbers);
  const DeviceArray<float> d(8 * 24), bias(24), short_bias(7);
  const DeviceArray<char> workspace(std::size_t{1} << 20);
  std::vector<float> host(24);
  Call call;
  call.epilogue = CUBLASLT_EPILOGUE_BIAS;

  // Attributes: of a known name, size and value.
  REQUIRE(call.plan(bias.data()) == CUBLAS_STATUS_SUCCESS);
  CHECK(call.set(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint64_t{1}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(call.set(CUBLASLT_MATMUL_DESC_EPILOGUE, std::uint32_t{77}) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(call.set(static_cast<cublasLtMatmulDescAttributes_t>(5), std::int32_t{0}) ==
        CUBLAS_STATUS_INVALID_VALUE);
  CHECK(call.set(CUBLASLT_MATMUL_DESC_TRANSA, std::int32_t{CUBLAS_OP_C}) == CUBLAS_STATUS_INVALID_VALUE);

  // Vectors and workspaces in device memory.
  REQUIRE(call.run(a.data(), b.data(), d.data(), workspace.data()) == CUBLAS_STATUS_SUCCESS);
  CHECK_THROWS_WITH(call.run(a.data(), b.data(), d.data(), host.data()), ContainsSubstring("no workspace"));
  REQUIRE(call.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(host.data())) ==
          CUBLAS_STATUS_SUCCESS);
  CHECK_THROWS_WITH(call.run(a.data(), b.data(), d.data(), workspace.data()), ContainsSubstring("the bias"));
  REQUIRE(call.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(short_bias.data())) ==
          CUBLAS_STATUS_SUCCESS);
  CHECK_THROWS_WITH(call.run(a.data(), b.data(), d.data(), workspace.data()), ContainsSubstring("the bias"));
  REQUIRE(call.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(nullptr)) == CUBLAS_STATUS_SUCCESS);
  CHECK(call.run(a.data(), b.data(), d.data(), workspace.data()) == CUBLAS_STATUS_INVALID_VALUE);

  // An algorithm serves the product that it was found for, and matrices as they were said to lie.
  REQUIRE(call.plan(bias.data()) == CUBLAS_STATUS_SUCCESS);
  CHECK_THROWS_WITH(call.run(a.data() + 8, b.data(), d.data(), workspace.data()),
                    ContainsSubstring("aligned to 256"));
  const cublasLtMatmulHeuristicResult_t other = call.best;
  call.n = 16;
  REQUIRE(call.plan(bias.data()) == CUBLAS_STATUS_SUCCESS);
  call.best = other;
  CHECK_THROWS_WITH(call.run(a.data(), b.data(), d.data(), workspace.data()),
                    ContainsSubstring("of another product"));

  // No epilogue off 16 bytes, and none of another type than D's; plain products there.
  call.alignment = 8;
  CHECK(call.plan(bias.data()) == CUBLAS_STATUS_NOT_SUPPORTED);
  call.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  CHECK(call.plan(bias.data()) == CUBLAS_STATUS_SUCCESS);
  call.epilogue = CUBLASLT_EPILOGUE_BIAS;
  call.alignment = 256;
  call.m = 7;
  CHECK(call.plan(bias.data()) == CUBLAS_STATUS_NOT_SUPPORTED);

  // No reduction in any order.
  call.m = 8;
  call.reductions = CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  CHECK_THROWS_WITH(call.plan(bias.data()), ContainsSubstring("the same bits twice"));
}
