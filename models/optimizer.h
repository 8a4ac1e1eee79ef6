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
//   p -= lr·wd·p;  m = β1 m + (1-β1) g;  v = β2 v + (1-β2) g²
//   p -= lr/(1-β1^t) · m / (sqrt(v)/sqrt(1-β2^t) + eps)
// with g scaled before by min(1, grad_clip / (norm + 1e-6)), norm the global L2 norm of all gradients.
class AdamW {
 public:
  // Allocates moments and gradients. Throws wedge::Error when there is no parameter, one comes twice, or
  // dtypes or devices differ.
  AdamW(NamedParameters parameters, AdamWOptions options);

  // One update with the gradients that backward left. A parameter without a gradient counts as gradient zero.
  // When the norm is not finite nothing is changed and no step counted. Waits for nothing.
  void step(double learning_rate);
  // The same with a learning rate that is read where the parameters are, float64 [1], when the step is done:
  // so a step that was captured in a graph can be replayed.
  void step(const Tensor& learning_rate);
  // Forgets all gradients.
  void zero_grad();

  // The last step's global norm before clipping, float64 [1] on the parameters' device; its
  // memory stays the same. And as a number: waits for the step.
  const Tensor& grad_norm_tensor() const { return norm_; }
  double grad_norm() const { return norm_.item(); }

  // What a step depends on besides weights and gradients: the updates so far (waits for them), from which the
  // bias corrections of the next one follow, and the moments in the order of the parameters.
  std::int64_t steps() const;
  const std::vector<Tensor>& first_moments() const { return first_; }
  const std::vector<Tensor>& second_moments() const { return second_; }
  // Puts such a state back (copied; on any device). Throws wedge::Error, and changes nothing, when `steps` is
  // negative or the moments' number, shapes or dtypes are not those of the parameters.
  void restore(std::int64_t steps, const std::vector<Tensor>& first, const std::vector<Tensor>& second);

 private:
  NamedParameters parameters_;
  AdamWOptions options_;
  std::vector<Tensor> first_, second_;
  // On the parameters' device: what the kernels of kernels/adamw.h read and write.
  Tensor learning_rate_, steps_, scalars_, squared_norm_, norm_;
};

}  // namespace wedge
