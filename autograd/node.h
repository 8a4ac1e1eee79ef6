// The graph behind Variable. Internal to autograd/.
#pragma once

#include <string>

#include "autograd/record.h"

namespace wedge {

// One recorded operation with one output. Nodes are numbered as they are recorded, so a node's consumers
// always have higher numbers: walking them newest first sees every gradient of an output before the output's
// node.
struct Node {
  struct Edge {
    std::shared_ptr<Node> producer;       // of an intermediate input
    std::shared_ptr<VariableState> leaf;  // a leaf that wants a gradient; both empty: not wanted
    Shape shape;
    DType dtype;
  };

  std::string op;
  std::uint64_t number;
  std::vector<Edge> inputs;
  std::function<void(const BackwardContext&)> backward;

  // dL/d(output) as it arrives. `owned`: no one else reads the tensor, so it may be added to in place.
  Tensor grad;
  bool grad_owned = false;
  cu::PartialSums grad_sums;  // of the columns of `grad` as it is, where its last producer made them
  GradUse grad_use;
  int consumers = 0;  // edges to this node

  // An edge; throws wedge::Error naming the op where there is none of this number.
  Edge& input(int i);

  Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();
  // Drops the closure and the edges; long chains are released in a loop, not by recursion.
  void release();
};

struct VariableState {
  Tensor value;
  bool requires_grad = false;
  std::shared_ptr<Node> node;  // empty for leaves and constants
  Tensor grad;                 // leaves
  bool has_grad = false;
};

// Memory for a leaf's gradient, not initialised. On a GPU, where products like their sizes to be multiples of
// 8, a matrix's is of that many rows (Tensor::capacity), which belong to nobody else.
Tensor empty_gradient(const Shape& shape, DType dtype, Device device);

}  // namespace wedge
