// AdamW over all parameters in one pass, with global-norm clipping.
#pragma once

#include <vector>

#include "autograd/variable.h"
#include "models/module.h"

namespace wedge {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double weight_decay = 0.01;  // decoupled, on every parameter
  double grad_clip = 1.0;      // <= 0: off
};

// Decoupled weight decay Adam (Loshchilov & Hutter 2019), PyTorch's order of operations:
//   p -= lr·wd·p;  m = β1 m + (1-β1) g;  v = β2 v + (1-β2) g²;  p -= lr/(1-β1^t) · m / (sqrt(v)/sqrt(1-β2^t)
//   + eps)
// with g scaled before by min(1, grad_clip / (norm + 1e-6)), norm the global L2 norm of all gradients.
class AdamW {
 public:
  // Allocates moments and gradients. Throws wedge::Error when there is no parameter, or dtypes or devices
  // differ.
  AdamW(NamedParameters parameters, AdamWOptions options);

  // One update with the gradients that backward left, each multiplied by `grad_scale` (1/micro-batches when
  // gradients were accumulated). Returns the global norm before clipping, after scaling. A parameter without
  // a gradient counts as gradient zero. When the norm is not finite nothing is changed.
  double step(double learning_rate, double grad_scale = 1.0);
  // Forgets all gradients.
  void zero_grad();

  // What a step depends on besides weights and gradients: the number of steps done, and the moments in the
  // order of the parameters.
  std::int64_t steps() const { return step_; }
  const std::vector<Tensor>& first_moments() const { return first_; }
  const std::vector<Tensor>& second_moments() const { return second_; }
  // Puts such a state back (copied; on any device). Throws wedge::Error, and changes nothing, when `steps` is
  // negative or the moments' number, shapes or dtypes are not those of the parameters.
  void restore(std::int64_t steps, const std::vector<Tensor>& first, const std::vector<Tensor>& second);

 private:
  NamedParameters parameters_;
  AdamWOptions options_;
  std::vector<Tensor> first_, second_;
  Tensor scalars_, squared_norm_;  // AdamWScalars and what the clipping needs, on the parameters' device
  std::int64_t step_ = 0;
};

}  // namespace wedge
