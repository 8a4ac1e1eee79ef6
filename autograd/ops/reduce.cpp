#include "autograd/compute.h"
#include "autograd/ops.h"

namespace wedge {
namespace {

Shape without(Shape shape, int dim) {
  shape.erase(shape.begin() + dim);
  return shape;
}

// x's gradient from the gradient of a sum over `dim`: every element of a row gets the row's, times `scale`.
Tensor spread(const Tensor& grad, const Shape& shape, int dim, double scale) {
  Shape kept = shape;
  kept[dim] = 1;
  return compute::scale(grad.reshape(kept).broadcast_to(shape), scale);
}

Variable scaled_sum(const char* name, const Variable& x, int dim, bool keep_dim, double scale) {
  const int d = normalize_dim(dim, x.value().rank(), name);
  Tensor y = compute::reduce(ReduceOp::sum, x.value(), d);
  if (scale != 1) y = compute::scale(y, scale);
  if (!keep_dim) y = y.reshape(without(y.shape(), d));
  return make_output(name, y, {x}, [shape = x.shape(), d, scale](const BackwardContext& ctx) {
    ctx.accumulate(0, spread(ctx.grad(), shape, d, scale));
  });
}

}  // namespace

Variable sum(const Variable& x, int dim, bool keep_dim) {
  return scaled_sum("sum", x, dim, keep_dim, 1);
}

Variable mean(const Variable& x, int dim, bool keep_dim) {
  const std::int64_t n = x.size(normalize_dim(dim, x.value().rank(), "mean"));
  WEDGE_CHECK(n > 0, "mean: dimension {} of {} is empty", dim, to_string(x.shape()));
  return scaled_sum("mean", x, dim, keep_dim, 1.0 / static_cast<double>(n));
}

Variable sum(const Variable& x) {
  return sum(reshape(x, {x.value().numel()}), 0);
}
Variable mean(const Variable& x) {
  return mean(reshape(x, {x.value().numel()}), 0);
}

Variable max(const Variable& x, int dim, bool keep_dim) {
  const int d = normalize_dim(dim, x.value().rank(), "max");
  const Tensor kept = compute::reduce(ReduceOp::max, x.value(), d);
  const Tensor y = keep_dim ? kept : kept.reshape(without(kept.shape(), d));
  return make_output(
      "max", y, {x}, [input = Saved(x.value()), output = Saved(kept), d](const BackwardContext& ctx) {
        // 1 where x equals its row's maximum, 0 elsewhere.
        const Tensor &in = input.get("max"), &kept = output.get("max");
        Tensor is_max = compute::binary(BinaryOp::sub, in, kept, "max");
        visit_floating(is_max.dtype(), "max", [&]<class T>(T) {
          for (T* p = is_max.data<T>(); p != is_max.data<T>() + is_max.numel(); ++p)
            *p = *p == T(0) ? T(1) : T(0);
        });
        const Tensor count = compute::reduce(ReduceOp::sum, is_max, d);
        const Tensor share = compute::binary(BinaryOp::div, ctx.grad().reshape(kept.shape()), count, "max");
        ctx.accumulate(0, compute::binary(BinaryOp::mul, is_max, share, "max"));
      });
}

}  // namespace wedge
