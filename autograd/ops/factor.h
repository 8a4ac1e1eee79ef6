// Factors of products in bfloat16, for ops that take only those. Internal to autograd/ops/.
#pragma once

#include "autograd/compute.h"
#include "kernels/linear.h"
#include "kernels/matmul.h"

namespace wedge {

// A tensor's values in bfloat16: the copy that it keeps, or one made here where it keeps none (a slice).
class Factor {
 public:
  Factor(const Tensor& t, const BFloat16* kept)
      : made_(kept == nullptr ? t.to(DType::bf16) : Tensor()),
        data_(kept == nullptr ? made_.data<BFloat16>() : kept) {}
  const BFloat16* data() const { return data_; }

 private:
  Tensor made_;
  const BFloat16* data_;
};
inline Factor weight_factor(const Exec& exec, const Tensor& w) {
  return {w, compute::rounded(exec, w)};
}
inline Factor activation_factor(const Exec& exec, const Tensor& x) {
  return {x, compute::rounded_activation(exec, x)};
}

// The GPU's way to run an op whose forward pass had products of bfloat16 factors, in backward too when that
// is outside the guard.
inline Exec exec_with_bf16_products(const Tensor& t) {
  Exec exec = compute::exec_of(t);
  exec.bf16_products = true;
  return exec;
}

// The gradients of a linear layer y [rows, N] = x [rows, K] Wᵀ + bias from factors in bfloat16.
struct RoundedLinear {
  std::int64_t rows, K, N;

  // dW (+)= dyᵀ x and dbias (+)= Σ dy, each where it is wanted; dbias of float32 `dy` if that is not null.
  void weight_gradients(const Exec& exec, const float* dy, const BFloat16* dy_rounded, const BFloat16* x,
                        const GradSink& dw, const GradSink& db) const {
    if (!dw && !db) return;
    linear_backward_weight<float>(exec, {.rows = rows,
                                         .K = K,
                                         .N = N,
                                         .dy = dy,
                                         .x = nullptr,
                                         .dweight = compute::data_or_null<float>(dw.tensor),
                                         .dbias = compute::data_or_null<float>(db.tensor),
                                         .dweight_add = dw.add,
                                         .dbias_add = db.add,
                                         .dy_rounded = dy_rounded,
                                         .x_rounded = x});
  }
  // dy W in bfloat16, [rows, K]
  void input_gradient(const Exec& exec, const BFloat16* dy, const BFloat16* weight, BFloat16* dx) const {
    gemm<BFloat16>(exec,
                   {.M = rows, .N = K, .K = N, .A = dy, .lda = N, .B = weight, .ldb = K, .C = dx, .ldc = K});
  }
  // dx (+)= dy W
  void input_gradient(const Exec& exec, const BFloat16* dy, const BFloat16* weight,
                      const GradSink& dx) const {
    gemm<float>(exec, {.M = rows,
                       .N = K,
                       .K = N,
                       .A = nullptr,
                       .lda = N,
                       .B = nullptr,
                       .ldb = K,
                       .beta = dx.add ? 1.0f : 0.0f,
                       .C = dx.tensor.data<float>(),
                       .ldc = K,
                       .A_rounded = dy,
                       .B_rounded = weight});
  }
};

}  // namespace wedge
