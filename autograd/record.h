// What those who write operations need (autograd/ops/*.cpp, README.md): saving tensors for backward,
// receiving and handing on gradients, and recording the operation.
#pragma once

#include <functional>
#include <initializer_list>
#include <utility>
#include <vector>

#include "autograd/variable.h"
#include "kernels/deferred_totals.h"
#include "kernels/exec.h"
#include "tensor/tensor.h"

namespace wedge {

struct Node;
namespace cu {
class SideStream;
}

// A tensor that backward will read. get() throws wedge::Error naming the op when it was changed in place
// meanwhile.
class Saved {
 public:
  Saved() = default;
  Saved(Tensor tensor)  // NOLINT: closures capture tensors as saved ones
      : tensor_(std::move(tensor)), watch_(tensor_) {}
  const Tensor& get(const char* op) const;

 private:
  Tensor tensor_;
  Tensor::Watch watch_;
};
// Throws that error where `watch` tells of a change.
void check_unchanged(const char* op, const Tensor::Watch& watch);

// What an op does with its output's gradient, beyond reading it: whoever makes that does well to prepare it.
struct GradUse {
  // Multiplies it by matrices: write its bfloat16 copy too (compute::round_into).
  bool is_factor = false;
  // Sums it over all dimensions but the last: hand over partial sums (BackwardContext::give_sums).
  bool is_summed = false;
  // If both are there and nobody else adds to the gradient, reads nothing else of it: so its float32 values
  // need not be written (compute::write_copy_alone).
  bool reads_copy_alone = false;
};

// Where the gradient of one input goes: a dense tensor of the input's shape, whether the kernel must add to
// it or may assign it (and then must write every element, but where compute::write_copy_alone), and what the
// op that made the input will do with it. Where it is a leaf's on a GPU, which nobody reads before backward
// returns, it may be written beside what follows (compute::beside).
struct GradSink {
  Tensor tensor;
  bool add = false;
  GradUse use = {};
  cu::SideStream* side = nullptr;
  explicit operator bool() const { return tensor.defined(); }
  // As kernels take it.
  template <class T>
  Sink<T> of() const {
    if (!tensor.defined()) return {};
    return {tensor.data<T>(), add};
  }
};

// What a backward closure sees.
class BackwardContext {
 public:
  // `is_one`: grad is a one that nobody has written yet.
  BackwardContext(Node& node, Tensor grad, cu::PartialSums grad_sums, bool is_one)
      : grad_(std::move(grad)), grad_sums_(std::move(grad_sums)), is_one_(is_one), node_(node) {}

  // dL/d(output), dense, of the output's shape. Do not write to it. A one is written when it is asked for.
  // Who has promised GradUse::reads_copy_alone reads its bfloat16 copy only (compute::rounded_activation),
  // and grad_sums().
  const Tensor& grad() const {
    if (is_one_ && !std::exchange(is_written_, true)) grad_.fill(1);
    return grad_;
  }
  // Whether that is known to be one: this is the scalar whose backward() was called.
  bool grad_is_one() const { return is_one_; }
  // Whether input i wants its gradient.
  bool wants(int i) const;
  // The sink of input i; undefined where the gradient is not wanted. Ask once for each input, then fill it.
  GradSink sink(int i) const;
  // Hands over the column sums of input i's gradient, all of it, as it is when this closure is done.
  void give_sums(int i, cu::PartialSums sums) const;
  // Those of grad(), if whoever made it gave any.
  const cu::PartialSums& grad_sums() const { return grad_sums_; }
  // For ops that make the gradient as a new tensor: assigns (taking the tensor over) or adds. Its shape is
  // the input's, or one that the input's broadcasts to: it is summed down. Throws wedge::Error naming the op
  // for other shapes, another dtype, or an undefined tensor.
  void accumulate(int i, Tensor gradient) const;

 private:
  Tensor grad_;
  cu::PartialSums grad_sums_;
  bool is_one_;
  mutable bool is_written_ = false;
  Node& node_;
};

// Makes an op's output: a constant when no input wants a gradient or no graph is recorded, else a node whose
// closure computes the inputs' gradients. An undefined input wants none: pass optional ones as they are. The
// closure may capture inputs' tensors (as Saved) and the output's tensor, never the output Variable. `op` is
// for messages.
Variable make_output(const char* op, Tensor value, std::vector<Variable> inputs,
                     std::function<void(const BackwardContext&)> backward, GradUse grad_use = {});
// Whether make_output would record: ops that save something extra for backward ask first.
bool needs_graph(std::initializer_list<Variable> inputs);

}  // namespace wedge
