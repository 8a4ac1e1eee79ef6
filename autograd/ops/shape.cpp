#include "autograd/compute.h"
#include "autograd/ops.h"

namespace wedge {

Variable reshape(const Variable& x, Shape shape) {
  compute::check_operands("reshape", {{"x", x}});
  return make_output(
      "reshape", x.value().reshape(std::move(shape)), {x},
      [from = x.shape()](const BackwardContext& ctx) { ctx.accumulate(0, ctx.grad().reshape(from)); });
}

Variable transpose(const Variable& x, int dim0, int dim1) {
  compute::check_operands("transpose", {{"x", x}});
  return make_output(
      "transpose", x.value().transpose(dim0, dim1), {x},
      [dim0, dim1](const BackwardContext& ctx) { ctx.accumulate(0, ctx.grad().transpose(dim0, dim1)); });
}

Variable permute(const Variable& x, const std::vector<int>& order) {
  compute::check_operands("permute", {{"x", x}});
  return make_output("permute", x.value().permute(order), {x}, [order](const BackwardContext& ctx) {
    std::vector<int> inverse(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) inverse[order[i]] = static_cast<int>(i);
    ctx.accumulate(0, ctx.grad().permute(inverse));
  });
}

Variable slice(const Variable& x, int dim, std::int64_t begin, std::int64_t end) {
  compute::check_operands("slice", {{"x", x}});
  const Tensor y = x.value().slice(dim, begin, end);
  const int d = normalize_dim(dim, x.value().rank(), "slice");
  return make_output("slice", y, {x}, [d, begin, end](const BackwardContext& ctx) {
    const GradSink dx = ctx.sink(0);
    if (!dx.add) dx.tensor.fill(0);
    const compute::OuterInner a(dx.tensor.shape(), d);
    Tensor part = dx.tensor.reshape({a.outer, a.n, a.inner}).slice(1, begin, end);
    const Tensor dy = ctx.grad().reshape(part.shape());
    part.copy_from(dx.add ? compute::binary(BinaryOp::add, part, dy, "slice") : dy);
  });
}

Variable concat(const std::vector<Variable>& parts, int dim) {
  WEDGE_CHECK(!parts.empty(), "concat: expected at least one tensor");
  compute::check_operands("concat", {{"the first part", parts[0]}});
  Shape shape = parts[0].shape();
  const int d = normalize_dim(dim, static_cast<int>(shape.size()), "concat");
  std::int64_t total = 0;
  for (const Variable& part : parts) {
    compute::check_operands("concat", {{"the first part", parts[0]}, {"a part", part}});
    Shape like = part.shape();
    WEDGE_CHECK(like.size() == shape.size(), "concat: expected {} in every dimension but {}, got {}",
                to_string(shape), d, to_string(like));
    total += like[d];
    like[d] = shape[d];
    WEDGE_CHECK(like == shape, "concat: expected {} in every dimension but {}, got {}", to_string(shape), d,
                to_string(part.shape()));
  }
  shape[d] = total;
  const Tensor y = Tensor::empty(shape, parts[0].dtype(), parts[0].value().device());
  std::vector<std::int64_t> starts = {0};
  for (const Variable& part : parts) {
    y.slice(d, starts.back(), starts.back() + part.size(d)).copy_from(part.value());
    starts.push_back(starts.back() + part.size(d));
  }
  return make_output("concat", y, parts, [d, starts](const BackwardContext& ctx) {
    for (std::size_t i = 0; i + 1 < starts.size(); ++i)
      if (ctx.wants(static_cast<int>(i)))
        ctx.accumulate(static_cast<int>(i), ctx.grad().slice(d, starts[i], starts[i + 1]));
  });
}

Variable broadcast_to(const Variable& x, const Shape& shape) {
  compute::check_operands("broadcast_to", {{"x", x}});
  return make_output("broadcast_to", x.value().broadcast_to(shape), {x},
                     [](const BackwardContext& ctx) { ctx.accumulate(0, ctx.grad()); });
}

}  // namespace wedge
