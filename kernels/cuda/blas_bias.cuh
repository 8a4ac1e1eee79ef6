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

// cuBLASLt's kernels for the products that were asked for, each chosen once: the host searches nothing in a
// step, and every run of a program takes the same ones. Not for several threads at once.
class BiasProducts {
 public:
  // With working memory that the products on one stream take in turn.
  BiasProducts(void* workspace, std::size_t bytes);

  // The product g, without batches and not empty, with bias [N] added to each row of C. False, and nothing is
  // done, where cuBLASLt has no kernel for such a product or a pointer is not aligned to 16 bytes. Throws
  // wedge::Error if a call fails.
  template <class Out>
  bool multiply(const Gemm<BFloat16, Out>& g, const Out* bias, cudaStream_t stream);

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
  template <class Out>
  Plan make_plan(const Gemm<BFloat16, Out>& g, const Out* bias) const;

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_;
  std::size_t bytes_;
  std::map<Key, Plan> plans_;
};

}  // namespace wedge::cu
