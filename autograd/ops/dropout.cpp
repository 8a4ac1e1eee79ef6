#include "kernels/dropout.h"

#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/dropout_mask.h"

namespace wedge {
namespace {

// [residual +] mask · x. The residual's gradient is dy itself.
Variable masked(const char* op, const Variable& x, const Variable& residual, const Dropout& drop) {
  const Tensor in = x.value().contiguous();
  const Tensor base = compute::dense_or_none(residual);
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), in.device());
  visit_floating(x.dtype(), op, [&]<class T>(T) {
    dropout_forward<T>(compute::exec_of(y),
                       {y.numel(), in.data<T>(), compute::data_or_null<T>(base), y.data<T>(), mask_of(drop)});
  });
  return make_output(
      op, y, {x, residual}, [op, drop, counter = Saved(drop.counter)](const BackwardContext& ctx) {
        counter.get(op);
        ctx.accumulate(1, ctx.grad());
        const GradSink dx = ctx.sink(0);
        if (!dx) return;
        visit_floating(ctx.grad().dtype(), op, [&]<class T>(T) {
          dropout_backward<T>(compute::exec_of(ctx.grad()),
                              {dx.tensor.numel(), ctx.grad().data<T>(), dx.of<T>(), mask_of(drop)});
        });
      });
}

}  // namespace

Variable dropout(const Variable& x, const Dropout& drop) {
  compute::check_operands("dropout", {{"x", x}});
  check_dropout("dropout", drop, x);
  if (drop.active()) return masked("dropout", x, {}, drop);
  // Not x itself: what comes of a leaf is no leaf.
  return make_output("dropout", x.value(), {x},
                     [](const BackwardContext& ctx) { ctx.accumulate(0, ctx.grad()); });
}

Variable residual_dropout(const Variable& h, const Variable& x, const Dropout& drop) {
  compute::check_operands("residual_dropout", {{"h", h}, {"x", x}});
  check_dropout("residual_dropout", drop, x);
  WEDGE_CHECK(h.shape() == x.shape(), "residual_dropout: expected two of one shape, got {} and {}",
              to_string(h.shape()), to_string(x.shape()));
  return drop.active() ? masked("residual_dropout", x, h, drop) : add(h, x);
}

}  // namespace wedge
