#include "autograd/compute.h"
#include "autograd/ops.h"

namespace wedge {
namespace {

Shape without(Shape shape, int dim) {
  shape.erase(shape.begin() + dim);
  return shape;
}

// x's gradient from the gradient of a sum over `dim`: every element of a row gets the row's, times `scale`. A
// product with broadcasting, which walks rows; scaling the broadcast view would first copy it element by
// element.
Tensor spread(const Tensor& grad, const Shape& shape, int dim, double scale) {
  const compute::OuterInner a(shape, dim);
  return compute::binary(BinaryOp::mul,
                         grad.reshape({a.outer, 1, a.inner}).broadcast_to({a.outer, a.n, a.inner}),
                         Tensor::full({}, scale, grad.dtype(), grad.device()), "sum")
      .reshape(shape);
}

// The sum, or the mean.
Variable summed(const char* name, const Variable& x, int dim, bool keep_dim, bool is_mean) {
  compute::check_operands(name, {{"x", x}});
  const int d = normalize_dim(dim, x.value().rank(), name);
  const std::int64_t n = x.size(d);
  WEDGE_CHECK(!is_mean || n > 0, "{}: dimension {} of {} is empty", name, dim, to_string(x.shape()));
  const double scale = is_mean ? 1.0 / static_cast<double>(n) : 1;
  Tensor y = compute::reduce(ReduceOp::sum, x.value(), d);
  if (scale != 1) y = compute::scale(y, scale);
  if (!keep_dim) y = y.reshape(without(y.shape(), d));
  return make_output(name, y, {x}, [shape = x.shape(), d, scale](const BackwardContext& ctx) {
    ctx.accumulate(0, spread(ctx.grad(), shape, d, scale));
  });
}

}  // namespace

Variable sum(const Variable& x, int dim, bool keep_dim) {
  return summed("sum", x, dim, keep_dim, false);
}
Variable mean(const Variable& x, int dim, bool keep_dim) {
  return summed("mean", x, dim, keep_dim, true);
}
Variable sum(const Variable& x) {
  compute::check_operands("sum", {{"x", x}});
  return sum(reshape(x, {x.value().numel()}), 0);
}
Variable mean(const Variable& x) {
  compute::check_operands("mean", {{"x", x}});
  WEDGE_CHECK(x.value().numel() > 0, "mean: {} is empty", to_string(x.shape()));
  return mean(reshape(x, {x.value().numel()}), 0);
}

Variable max(const Variable& x, int dim, bool keep_dim) {
  compute::check_operands("max", {{"x", x}});
  const int d = normalize_dim(dim, x.value().rank(), "max");
  const Tensor in = x.value().contiguous(), kept = compute::reduce(ReduceOp::max, in, d);
  const Tensor y = keep_dim ? kept : kept.reshape(without(kept.shape(), d));
  return make_output("max", y, {x}, [input = Saved(in), output = Saved(kept), d](const BackwardContext& ctx) {
    const Tensor &in = input.get("max"), &kept = output.get("max");
    const GradSink dx = ctx.sink(0);
    const compute::OuterInner a(in.shape(), d);
    visit_floating(in.dtype(), "max", [&]<class T>(T) {
      max_backward<T>(compute::exec_of(in), {a.outer, a.n, a.inner, in.data<T>(), kept.data<T>(),
                                             ctx.grad().data<T>(), dx.of<T>()});
    });
  });
}

}  // namespace wedge
