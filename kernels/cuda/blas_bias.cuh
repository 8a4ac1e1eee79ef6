// Products of bfloat16 matrices through cuBLASLt, which adds a bias in the product's own kernel.
#pragma once

#include <cublasLt.h>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <type_traits>

#include "kernels/cuda/blas.cuh"

namespace wedge::cu {

// Column-major, as cuBLAS has it: D [m, n] = alpha · op(A) · op(B) + beta · D, D [i, j] += bias [i].
struct BiasProduct {
  cublasOperation_t trans_a, trans_b;
  std::int64_t m, n, k;
  float alpha;
  const BFloat16* A;
  std::int64_t lda;
  const BFloat16* B;
  std::int64_t ldb;
  float beta;
  void* D;
  std::int64_t ldd;
  cudaDataType_t type;  // of D
  const void* bias;     // of D's type
};

// cuBLASLt's kernels for the products that were asked for, each chosen once: the host searches nothing in a
// step, and every run of a program takes the same ones. Not for several threads at once.
class BiasProducts {
 public:
  // With working memory that the products on one stream take in turn.
  BiasProducts(void* workspace, std::size_t bytes);

  // False, and nothing is done, where cuBLASLt has no kernel for such a product or a pointer is not aligned
  // to 16 bytes. Throws wedge::Error if a call fails.
  bool multiply(const BiasProduct& p, cudaStream_t stream);

 private:
  template <class H, auto destroy>
  using Handle =
      std::unique_ptr<std::remove_pointer_t<H>, std::integral_constant<decltype(destroy), destroy>>;
  // What the choice depends on: sizes, leading dimensions and types.
  struct Key {
    std::array<std::int64_t, 6> sizes;
    std::array<int, 3> kinds;
    auto operator<=>(const Key&) const = default;
  };
  // Lives as long as the process, as its library's handle does.
  struct Plan {
    Handle<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy> operation;
    Handle<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy> a, b, d;
    cublasLtMatmulAlgo_t algorithm{};
    bool found = false;
  };
  Plan make_plan(const BiasProduct& p) const;

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_;
  std::size_t bytes_;
  std::map<Key, Plan> plans_;
};

}  // namespace wedge::cu
