#include "autograd/variable.h"

#include <atomic>

#include "autograd/node.h"
#include "tensor/round_up.h"

namespace wedge {
namespace {

thread_local bool t_grad_enabled = true;
thread_local bool t_bf16_products = false, t_bf16_products_on_cpu = false;
std::atomic<std::uint64_t> next_number{0};

}  // namespace

GradGuard::GradGuard(bool on) : previous_(t_grad_enabled) {
  t_grad_enabled = on;
}
GradGuard::~GradGuard() {
  t_grad_enabled = previous_;
}
bool grad_enabled() {
  return t_grad_enabled;
}

Bf16ProductsGuard::Bf16ProductsGuard(bool on, bool on_cpu)
    : previous_(t_bf16_products), previous_on_cpu_(t_bf16_products_on_cpu) {
  t_bf16_products = on;
  t_bf16_products_on_cpu = on_cpu;
}
Bf16ProductsGuard::~Bf16ProductsGuard() {
  t_bf16_products = previous_;
  t_bf16_products_on_cpu = previous_on_cpu_;
}
bool bf16_products() {
  return t_bf16_products;
}
bool bf16_products_on_cpu() {
  return t_bf16_products_on_cpu;
}

Variable::Variable(Tensor value, bool requires_grad) : state_(std::make_shared<VariableState>()) {
  WEDGE_CHECK(value.defined(), "variable: expected a tensor, got an undefined one");
  WEDGE_CHECK(!requires_grad || is_floating(value.dtype()),
              "variable: only floating tensors have gradients, got {}", name_of(value.dtype()));
  // A parameter is one dense block: optimizers and kernels update it as such.
  state_->value = requires_grad ? value.contiguous() : std::move(value);
  state_->requires_grad = requires_grad;
}

const Tensor& Variable::value() const {
  WEDGE_CHECK(defined(), "variable: value of an undefined variable");
  return state_->value;
}

bool Variable::requires_grad() const {
  return defined() && state_->requires_grad;
}

Tensor Variable::grad() const {
  return defined() && state_->has_grad ? state_->grad : Tensor();
}

void Variable::zero_grad() const {
  if (defined()) state_->has_grad = false;
}

Tensor Variable::grad_buffer() const {
  WEDGE_CHECK(requires_grad() && !state_->node, "grad_buffer: expected a leaf that wants a gradient");
  if (!state_->grad.defined()) {
    state_->grad = empty_gradient(shape(), dtype(), value().device());
    state_->grad.fill(0);
  }
  return state_->grad;
}

Tensor empty_gradient(const Shape& shape, DType dtype, Device device) {
  if (device == Device::cpu || shape.size() != 2) return Tensor::empty(shape, dtype, device);
  return Tensor::empty({round_up(shape[0], 8), shape[1]}, dtype, device).slice(0, 0, shape[0]);
}

void Variable::set_value(Tensor value) const {
  WEDGE_CHECK(defined() && !state_->node, "set_value: expected a leaf");
  WEDGE_CHECK(value.defined(), "set_value: expected a tensor, got an undefined one");
  WEDGE_CHECK(value.shape() == shape() && value.dtype() == dtype(), "set_value: expected {} {}, got {} {}",
              name_of(dtype()), to_string(shape()), name_of(value.dtype()), to_string(value.shape()));
  state_->value.copy_from(value);
}

void check_unchanged(const char* op, const Tensor::Watch& watch) {
  WEDGE_CHECK(!watch.changed(), "{}: a tensor that backward needs was changed in place after forward", op);
}

const Tensor& Saved::get(const char* op) const {
  check_unchanged(op, watch_);
  return tensor_;
}

bool needs_graph(std::initializer_list<Variable> inputs) {
  if (!t_grad_enabled) return false;
  for (const Variable& input : inputs)
    if (input.requires_grad()) return true;
  return false;
}

Variable make_output(const char* op, Tensor value, std::vector<Variable> inputs,
                     std::function<void(const BackwardContext&)> backward, GradUse grad_use) {
  Variable out(std::move(value));
  bool wanted = false;
  for (const Variable& input : inputs) wanted |= input.requires_grad();
  if (!wanted || !t_grad_enabled) return out;
  auto node = std::make_shared<Node>();
  node->op = op;
  node->number = next_number++;
  node->backward = std::move(backward);
  node->grad_use = grad_use;
  for (const Variable& input : inputs) {
    Node::Edge edge;
    if (input.requires_grad()) {
      const auto& state = input.state();
      edge = {state->node, state->node ? nullptr : state, input.shape(), input.dtype()};
      if (edge.producer) ++edge.producer->consumers;
    }
    node->inputs.push_back(std::move(edge));
  }
  out.state()->requires_grad = true;
  out.state()->node = std::move(node);
  return out;
}

}  // namespace wedge
