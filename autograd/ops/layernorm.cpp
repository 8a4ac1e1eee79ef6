#include "kernels/layernorm.h"

#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/dropout_mask.h"

namespace wedge {
namespace {

// layernorm(h + dropout(x)), h may be undefined, or dropout(layernorm(h + x)).
Variable normalize(const char* op, const Variable& h, const Variable& x, const Dropout& drop,
                   const Variable& weight, const Variable& bias, double eps, bool masks_output = false) {
  compute::check_operands(op, {{"x", x}, {"weight", weight}, {"bias", bias}, {"h", h, true}});
  check_dropout(op, drop, x);
  check_eps(op, eps);
  WEDGE_CHECK(x.value().rank() >= 1 && x.size(-1) > 0, "{}: expected [..., D], got {}", op,
              to_string(x.shape()));
  const std::int64_t D = x.size(-1), rows = x.value().numel() / D;
  WEDGE_CHECK(weight.shape() == Shape{D} && bias.shape() == Shape{D},
              "{}: weight and bias must be [{}], got {} and {}", op, D, to_string(weight.shape()),
              to_string(bias.shape()));
  WEDGE_CHECK(!h.defined() || h.shape() == x.shape(),
              "{}: residual and input must have one shape, got {} and {}", op,
              h.defined() ? to_string(h.shape()) : "none", to_string(x.shape()));

  const Tensor in = x.value().contiguous(), residual = compute::dense_or_none(h);
  const Tensor w = weight.value().contiguous(), b = bias.value().contiguous();
  const auto fresh = [&](Shape shape) { return Tensor::empty(std::move(shape), x.dtype(), in.device()); };
  const Tensor y = fresh(x.shape()), mean = fresh({rows}), rstd = fresh({rows});
  const bool plain = !h.defined() && (masks_output || !drop.active());
  const bool recorded = needs_graph({x, weight, bias, h});
  const Tensor s = plain ? in : recorded ? fresh(x.shape()) : Tensor();
  visit_floating(x.dtype(), op, [&]<class T>(T) {
    const Exec exec = compute::exec_of(y);
    layernorm_forward<T>(exec, {.rows = rows,
                                .D = D,
                                .x = in.data<T>(),
                                .residual = compute::data_or_null<T>(residual),
                                .mask = mask_of(drop),
                                .weight = w.data<T>(),
                                .bias = b.data<T>(),
                                .eps = eps,
                                .s = plain || !recorded ? nullptr : s.data<T>(),
                                .y = y.data<T>(),
                                .mean = mean.data<T>(),
                                .rstd = rstd.data<T>(),
                                .y_rounded = compute::round_into(exec, y),
                                .masks_output = masks_output});
  });
  if (!recorded) return Variable(y);

  return make_output(op, y, {x, weight, bias, h},
                     [op, rows, D, s = Saved(s), mean, rstd, w = Saved(w), drop,
                      counter = Saved(drop.counter), masks_output](const BackwardContext& ctx) {
                       if (drop.active()) counter.get(op);
                       // In the order in which the kernel writes them: h and x may be one variable.
                       const GradSink dh = ctx.sink(3);
                       const GradSink dx = ctx.sink(0), dweight = ctx.sink(1), dbias = ctx.sink(2);
                       visit_floating(ctx.grad().dtype(), op, [&]<class T>(T) {
                         const Exec exec = compute::exec_of(ctx.grad());
                         // One row may be the weight or the bias too, and be added to afterwards.
                         const bool alone = rows > 1;
                         LayernormBackward<T> args{
                             .rows = rows,
                             .D = D,
                             .dy = ctx.grad().data<T>(),
                             .s = s.get(op).data<T>(),
                             .mean = mean.data<T>(),
                             .rstd = rstd.data<T>(),
                             .weight = w.get(op).data<T>(),
                             .mask = mask_of(drop),
                             .dx = dx.of<T>(),
                             .dresidual = dh.of<T>(),
                             .dweight = dweight.of<T>(),
                             .dbias = dbias.of<T>(),
                             .dx_rounded = alone ? compute::round_into(exec, dx) : nullptr,
                             .masks_output = masks_output};
                         cu::PartialSums sums;
                         if constexpr (kWithCuda && kOnCuda<T>)
                           if (exec.device == Device::cuda && alone)
                             sums = compute::sums_into(dx, cu::layernorm_dx_pieces(args));
                         args.dx_sums = sums.data();
                         if (compute::write_copy_alone(dx, args.dx_rounded, sums)) args.dx = {};
                         layernorm_backward<T>(exec, args);
                         if (sums) ctx.give_sums(0, std::move(sums));
                       });
                     });
}

}  // namespace

Variable layernorm(const Variable& x, const Variable& weight, const Variable& bias, double eps) {
  return normalize("layernorm", {}, x, {}, weight, bias, eps);
}

Variable layernorm_dropout(const Variable& x, const Variable& weight, const Variable& bias,
                           const Dropout& drop, double eps) {
  return normalize("layernorm_dropout", {}, x, drop, weight, bias, eps, true);
}

Variable residual_layernorm(const Variable& h, const Variable& x, const Dropout& drop, const Variable& weight,
                            const Variable& bias, double eps) {
  compute::check_operands("residual_layernorm", {{"h", h}});
  return normalize("residual_layernorm", h, x, drop, weight, bias, eps);
}

}  // namespace wedge
