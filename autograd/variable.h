// The tape: reverse-mode automatic differentiation over a graph that is recorded as the operations run.
//
//   auto w = parameter(Tensor::...);           // a leaf that wants a gradient
//   Variable loss = mean(square(matmul(x, w)));
//   loss.backward();                           // w.grad() += dloss/dw
//
// One thread at a time may record into or walk a graph, or use the same leaves.
// First order only: a graph is freed as backward walks it, and a second backward over it is an error.
#pragma once

#include <memory>
#include <utility>

#include "tensor/tensor.h"

namespace wedge {

struct VariableState;

// A tensor with a place in the graph. A cheap handle: copies are the same variable.
class Variable {
 public:
  Variable() = default;
  // A constant (requires_grad false) or a leaf that wants a gradient (floating dtypes only). Not explicit:
  // tensors are constants wherever variables are expected.
  Variable(Tensor value, bool requires_grad = false);  // NOLINT

  bool defined() const { return state_ != nullptr; }
  const Tensor& value() const;
  const Shape& shape() const { return value().shape(); }
  std::int64_t size(int dim) const { return value().size(dim); }
  DType dtype() const { return value().dtype(); }
  double item() const { return value().item(); }
  bool requires_grad() const;

  // The gradient of a leaf after backward(); undefined before the first one and after zero_grad(). Gradients
  // of several backward passes add up.
  Tensor grad() const;
  // Forgets the gradient but keeps its memory: the next backward writes to the same address.
  void zero_grad() const;
  // Allocates the gradient's memory now, as zeros that count as "no gradient yet", and returns it.
  Tensor grad_buffer() const;
  // Leaves only: copies `value`, of the same shape and dtype, into the memory of this one's, which detached
  // variables and tensors that it was made of may share.
  void set_value(Tensor value) const;

  // Runs the graph backwards from this scalar; throws wedge::Error when it is not one element or has no
  // graph. Where it throws on its way, leaves that had no gradient before have none, and those that had one
  // have it with some of the new ones added.
  void backward() const;
  // The same from any shape, with dL/dthis given.
  void backward(const Tensor& grad) const;

  // The same value, cut off from the graph.
  Variable detach() const { return Variable(value()); }

  const std::shared_ptr<VariableState>& state() const { return state_; }

 private:
  void run_backward(const Tensor& grad, bool is_one) const;
  std::shared_ptr<VariableState> state_;
};

// A leaf that wants a gradient. It shares the memory of `value` where that is dense: clone() what is used
// elsewhere.
inline Variable parameter(Tensor value) {
  return Variable(std::move(value), true);
}

// While one lives, this thread records graphs, or none.
class GradGuard {
 public:
  explicit GradGuard(bool on);
  ~GradGuard();
  GradGuard(const GradGuard&) = delete;
  GradGuard& operator=(const GradGuard&) = delete;

 private:
  bool previous_;
};
// Backward closures run in one. An op whose closure makes its forward pass again, to walk that
// (gradient checkpointing), opens a GradGuard(true).
class NoGradGuard : public GradGuard {
 public:
  NoGradGuard() : GradGuard(false) {}
};
bool grad_enabled();

// While one lives, matrix products of float32 tensors on a GPU take bfloat16 copies of their factors
// (products on tensor cores, sums and results in float32), forward and backward. With `on_cpu` those on the
// CPU do so too, where its processor has a matrix unit (Intel's AMX) and they are not too small to gain by it;
// else nothing is changed there.
class Bf16ProductsGuard {
 public:
  explicit Bf16ProductsGuard(bool on = true, bool on_cpu = false);
  ~Bf16ProductsGuard();
  Bf16ProductsGuard(const Bf16ProductsGuard&) = delete;
  Bf16ProductsGuard& operator=(const Bf16ProductsGuard&) = delete;

 private:
  bool previous_, previous_on_cpu_;
};
bool bf16_products();
bool bf16_products_on_cpu();

}  // namespace wedge
