// Products of bfloat16 matrices through cuBLASLt, which works on a vector in the product's own kernel.
#pragma once

#include <cublasLt.h>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>

#include "kernels/cuda/blas.cuh"

namespace wedge::cu {

// Column-major, as cuBLAS has it: D [m, n] = alpha · op(A) · op(B) + beta · D, and with the epilogue
//   BIAS     D [i, j] += vector [i]
//   BGRADB   vector [j] = Σ over k of op(B) [k, j]; alpha must be 1
// The vector is of D's type.
struct EpilogueProduct {
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
  cublasLtEpilogue_t epilogue;
  void* vector;
};

// cuBLASLt's kernels for the products that were asked for, each chosen once: the host searches nothing in a
// step, and every run of a program takes the same ones. Not for several threads at once.
class EpilogueProducts {
 public:
  // With working memory that the products on one stream take in turn.
  EpilogueProducts(void* workspace, std::size_t bytes);

  // False, and nothing is done, where cuBLASLt has no kernel for such a product. Throws wedge::Error if a
  // call fails.
  bool multiply(const EpilogueProduct& p, cudaStream_t stream);

 private:
  // What the choice depends on: sizes, leading dimensions, types, and how pointers are aligned.
  struct Key {
    std::array<std::int64_t, 6> sizes;
    std::array<int, 4> kinds;
    std::array<std::uint32_t, 4> alignments;
    auto operator<=>(const Key&) const = default;
  };
  // Lives as long as the process, as its library's handle does.
  struct Plan {
    cublasLtMatmulDesc_t operation = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
    bool found = false;
  };
  Plan make_plan(const EpilogueProduct& p, const Key& key) const;

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_;
  std::size_t bytes_;
  std::map<Key, Plan> plans_;
};

}  // namespace wedge::cu
