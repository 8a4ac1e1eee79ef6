// Factors of products in bfloat16, for ops that take only those. Internal to autograd/ops/.
#pragma once

#include "autograd/compute.h"

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

}  // namespace wedge
