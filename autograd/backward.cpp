#include <optional>
#include <queue>
#include <utility>

#include "autograd/compute.h"
#include "autograd/node.h"
#include "kernels/deferred_totals.h"
#include "tensor/cuda/side_stream.h"

namespace wedge {

Node::~Node() {
  release();
}

void Node::release() {
  backward = nullptr;
  std::vector<std::shared_ptr<Node>> orphans;
  const auto take = [&orphans](std::vector<Edge>& edges) {
    for (Edge& edge : edges)
      if (edge.producer) orphans.push_back(std::move(edge.producer));
    edges.clear();
  };
  take(inputs);
  while (!orphans.empty()) {
    const std::shared_ptr<Node> node = std::move(orphans.back());
    orphans.pop_back();
    if (node.use_count() == 1) {
      node->backward = nullptr;
      take(node->inputs);
    }
  }
}

namespace {

// One call of run_backward.
struct Walk {
  Walk* around = nullptr;                      // the one that it is called within, if any
  std::vector<std::shared_ptr<Node>> arrived;  // nodes with a gradient that wait for their turn
  // Leaves whose gradient it has written to, and whether that was their first. What waits in `totals` and
  // `side` goes to their memory, so they stay until the end.
  struct Written {
    std::shared_ptr<VariableState> leaf;
    bool is_first;
  };
  std::vector<Written> written;
  // On a GPU
  std::optional<cu::DeferredTotals> totals;
  std::optional<cu::SideStream> side;
};
thread_local Walk* t_walk = nullptr;

void mark_arrived(const std::shared_ptr<Node>& node) {
  if (t_walk != nullptr) t_walk->arrived.push_back(node);
}

// A kernel is about to write to the leaf's gradient. Nobody reads that before backward returns, and who
// writes to it next comes by here: so it may be written on the stream that is returned, if any.
cu::SideStream* mark_written(const std::shared_ptr<VariableState>& leaf, bool is_first) {
  if (t_walk == nullptr) return nullptr;
  t_walk->written.push_back({leaf, is_first});
  const Tensor& grad = leaf->grad;
  if constexpr (kWithCuda) {
    if (!t_walk->totals || grad.dtype() != DType::f32 || grad.device() != Device::cuda) return nullptr;
    const std::span<const float> place(grad.data<float>(), static_cast<std::size_t>(grad.numel()));
    cu::DeferredTotals::settle(place);
    t_walk->totals->may_wait(place);
    for (Walk* walk = t_walk; walk != nullptr; walk = walk->around)
      if (walk->side) walk->side->settle(place);
    return &*t_walk->side;
  }
  return nullptr;
}

bool is_wanted(const Node::Edge& edge) {
  return edge.producer || edge.leaf;
}

}  // namespace

Node::Edge& Node::input(int i) {
  WEDGE_CHECK(0 <= i && i < static_cast<int>(inputs.size()), "{}: its gradient asks for input {} of {}", op,
              i, inputs.size());
  return inputs[i];
}

bool BackwardContext::wants(int i) const {
  return is_wanted(node_.input(i));
}

GradSink BackwardContext::sink(int i) const {
  Node::Edge& edge = node_.input(i);
  if (edge.leaf) {
    VariableState& leaf = *edge.leaf;
    if (!leaf.grad.defined()) leaf.grad = empty_gradient(edge.shape, edge.dtype, grad_.device());
    cu::SideStream* const side = mark_written(edge.leaf, !leaf.has_grad);
    leaf.grad.bump_version();  // a bfloat16 copy of what there was is out of date, here and below
    return {leaf.grad, std::exchange(leaf.has_grad, true), {}, side};
  }
  if (!edge.producer) return {};
  Node& producer = *edge.producer;
  producer.grad_sums = {};
  GradUse use = producer.grad_use;
  use.reads_copy_alone = use.reads_copy_alone && producer.consumers == 1;  // nobody else adds to it
  if (!producer.grad.defined()) {
    producer.grad = Tensor::empty(edge.shape, edge.dtype, grad_.device());
    producer.grad_owned = true;
    mark_arrived(edge.producer);
    return {producer.grad, false, use};
  }
  if (!producer.grad_owned) {
    producer.grad = producer.grad.clone();
    producer.grad_owned = true;
  }
  producer.grad.bump_version();
  return {producer.grad, true, use};
}

void BackwardContext::give_sums(int i, cu::PartialSums sums) const {
  const Node::Edge& edge = node_.input(i);
  if (edge.producer) edge.producer->grad_sums = std::move(sums);
}

void BackwardContext::accumulate(int i, Tensor gradient) const {
  Node::Edge& edge = node_.input(i);
  if (!is_wanted(edge)) return;
  WEDGE_CHECK(gradient.defined() && gradient.dtype() == edge.dtype && gradient.device() == grad_.device() &&
                  broadcasts_to(edge.shape, gradient.shape()),
              "{}: the gradient of input {} must be {} {} on {}, got {}", node_.op, i, name_of(edge.dtype),
              to_string(edge.shape), name_of(grad_.device()),
              gradient.defined() ? fmt::format("{} {} on {}", name_of(gradient.dtype()),
                                               to_string(gradient.shape()), name_of(gradient.device()))
                                 : "an undefined tensor");
  if (gradient.shape() != edge.shape) gradient = compute::sum_to(gradient, edge.shape);
  if (edge.producer && !edge.producer->grad.defined()) {
    Node& producer = *edge.producer;
    producer.grad = gradient.contiguous();
    producer.grad_sums = {};
    gradient = Tensor();
    producer.grad_owned = producer.grad.is_unique();
    mark_arrived(edge.producer);
    return;
  }
  const GradSink target = sink(i);
  if (target.add) {
    compute::add_into(target.tensor, gradient);
  } else {
    target.tensor.copy_from(gradient);
  }
}

void Variable::backward() const {
  WEDGE_CHECK(defined() && value().numel() == 1, "backward: expected a scalar, got shape {}",
              defined() ? to_string(shape()) : "of an undefined variable");
  run_backward(Tensor::empty(shape(), dtype(), value().device()), true);
}

void Variable::backward(const Tensor& grad) const {
  WEDGE_CHECK(grad.defined(), "backward: expected a gradient, got an undefined tensor");
  // Memory of others may be what the walk writes to, such as a leaf's gradient.
  run_backward(grad.is_unique() ? grad : grad.clone(), false);
}

void Variable::run_backward(const Tensor& grad, bool is_one) const {
  WEDGE_CHECK(requires_grad() && state_->node,
              "backward: expected the result of an operation on variables that want gradients");
  WEDGE_CHECK(grad.shape() == shape() && grad.dtype() == dtype(),
              "backward: expected a gradient {} {}, got {} {}", name_of(dtype()), to_string(shape()),
              name_of(grad.dtype()), to_string(grad.shape()));
  WEDGE_CHECK(grad.device() == value().device(), "backward: expected a gradient on {}, got one on {}",
              name_of(value().device()), name_of(grad.device()));
  WEDGE_CHECK(state_->node->backward != nullptr,
              "backward: this graph was already used and freed (the tape is first order)");

  const auto older = [](const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) {
    return a->number < b->number;
  };
  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, decltype(older)> queue(
      older);
  Walk walk;
  if constexpr (kWithCuda) {
    if (grad.device() == Device::cuda) {
      walk.totals.emplace(cu::stream());
      walk.side.emplace();
    }
  }
  struct Scope {
    Walk& walk;
    explicit Scope(Walk& w) : walk(w) { walk.around = std::exchange(t_walk, &walk); }
    ~Scope() { t_walk = walk.around; }
  } scope(walk);

  state_->node->grad = grad.contiguous();
  state_->node->grad_owned = false;
  state_->node->grad_sums = {};
  queue.push(state_->node);
  const NoGradGuard no_grad;
  try {
    while (!queue.empty()) {
      const std::shared_ptr<Node> node = queue.top();
      queue.pop();
      WEDGE_CHECK(node->backward != nullptr,
                  "backward: {} was already walked by an earlier backward and is freed", node->op);
      // Only what came before the first node is walked: nothing else arrives at that one.
      const BackwardContext context(*node, std::exchange(node->grad, Tensor()),
                                    std::exchange(node->grad_sums, {}), is_one && node == state_->node);
      const auto closure = std::exchange(node->backward, nullptr);
      closure(context);
      node->release();
      for (auto& producer : walk.arrived) queue.push(std::move(producer));
      walk.arrived.clear();
    }
    if (walk.totals) walk.totals->add_up();
    if constexpr (kWithCuda)
      if (walk.side) walk.side->join();
  } catch (...) {
    // Gradients that wait for nodes that will not run now must not meet those of another backward.
    for (; !queue.empty(); queue.pop()) walk.arrived.push_back(queue.top());
    for (const auto& node : walk.arrived) {
      node->grad = Tensor();
      node->grad_sums = {};
    }
    for (const auto& [leaf, is_first] : walk.written)
      if (is_first) leaf->has_grad = false;
    throw;
  }
}

}  // namespace wedge
