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
      : tensor_(kept == nullptr ? t.to(DType::bf16) : t),
        data_(kept == nullptr ? tensor_.data<BFloat16>() : kept) {}
  // One that is bfloat16 itself.
  Factor(const Tensor& t) : tensor_(t), data_(t.data<BFloat16>()) {}  // NOLINT: a tensor is its own factor
  const BFloat16* data() const { return data_; }
  // Who keeps it alive.
  const Tensor& tensor() const { return tensor_; }

 private:
  Tensor tensor_;
  const BFloat16* data_;
};
inline Factor weight_factor(const Exec& exec, const Tensor& w) {
  return {w, compute::rounded(exec, w)};
}
inline Factor activation_factor(const Exec& exec, const Tensor& x) {
  return {x, compute::rounded_activation(exec, x)};
}

// An activation's factor that backward will read, and no float32 of it: that is freed with its last reader.
// Where it is not, and was changed in place, or was before and rounded anew, get() throws as Saved's does.
class SavedFactor {
 public:
  // `factor` is activation_factor's of `x`.
  SavedFactor(const Factor& factor, const Tensor& x)
      : factor_(factor.tensor().dtype() == DType::bf16 ? factor : Factor(Bf16Copy(x).values())),
        watch_(x),
        watch_copy_(factor_.tensor()) {}
  const Factor& get(const char* op) const {
    check_unchanged(op, watch_);
    check_unchanged(op, watch_copy_);
    return factor_;
  }

 private:
  Factor factor_;
  Tensor::Watch watch_, watch_copy_;
};

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

  // dW (+)= dyᵀ x, beside what follows
  void weight_gradient(const Exec& exec, const Factor& dy, const Factor& x, const GradSink& dw) const {
    if (!dw) return;
    const Gemm<float> product{.M = N,
                              .N = K,
                              .K = rows,
                              .A = transposed<float>(nullptr, N, dy.data()),
                              .B = {nullptr, K, x.data()},
                              .C = {dw.tensor.data<float>(), K},
                              .beta = dw.add ? 1.0f : 0.0f};
    compute::beside(exec, dw, {dy.tensor(), x.tensor()},
                    [&](const Exec& aside) { gemm<float>(aside, product); });
  }
  // dbias (+)= Σ dy; of float32 `dy` if that is not null.
  void bias_gradient(const Exec& exec, const float* dy, const BFloat16* dy_rounded,
                     const GradSink& db) const {
    if (db) linear_dbias<float>(exec, {rows, N, dy, db.of<float>(), dy_rounded});
  }
  // dy W in bfloat16, [rows, K]
  void input_gradient(const Exec& exec, const BFloat16* dy, const BFloat16* weight, BFloat16* dx) const {
    gemm<BFloat16>(exec, {.M = rows, .N = K, .K = N, .A = {dy, N}, .B = {weight, K}, .C = {dx, K}});
  }
  // dx (+)= dy W
  void input_gradient(const Exec& exec, const BFloat16* dy, const BFloat16* weight,
                      const GradSink& dx) const {
    gemm<float>(exec, {.M = rows,
                       .N = K,
                       .K = N,
                       .A = {nullptr, N, dy},
                       .B = {nullptr, K, weight},
                       .C = {dx.tensor.data<float>(), K},
                       .beta = dx.add ? 1.0f : 0.0f});
  }
};

}  // namespace wedge
