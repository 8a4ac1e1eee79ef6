#include "kernels/layernorm.h"

#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/dropout_mask.h"

namespace wedge {
namespace {

// layernorm(h + dropout(x)), h may be undefined, or dropout(layernorm(h + x)). Inputs of the node: x, weight,
// bias[, h].
Variable normalize(const char* op, const Variable& h, const Variable& x, const Dropout& drop,
                   const Variable& weight, const Variable& bias, double eps, bool masks_output = false) {
  check_dropout(op, drop);
  WEDGE_CHECK(x.value().rank() >= 1 && x.size(-1) > 0, "{}: expected [..., D], got {}", op,
              to_string(x.shape()));
  const std::int64_t D = x.size(-1), rows = x.value().numel() / D;
  WEDGE_CHECK(weight.shape() == Shape{D} && bias.shape() == Shape{D},
              "{}: weight and bias must be [{}], got {} and {}", op, D, to_string(weight.shape()),
              to_string(bias.shape()));
  WEDGE_CHECK(!h.defined() || (h.shape() == x.shape() && h.dtype() == x.dtype()),
              "{}: residual and input must have one shape, got {} and {}", op,
              h.defined() ? to_string(h.shape()) : "none", to_string(x.shape()));
  WEDGE_CHECK(weight.dtype() == x.dtype() && bias.dtype() == x.dtype(),
              "{}: weight and bias must be {}, got {} and {}", op, name_of(x.dtype()),
              name_of(weight.dtype()), name_of(bias.dtype()));

  const Tensor in = x.value().contiguous(), residual = h.defined() ? h.value().contiguous() : Tensor();
  const Tensor w = weight.value().contiguous(), b = bias.value().contiguous();
  compute::check_one_device(op, {&in, &residual, &w, &b, &drop.counter});
  const auto fresh = [&](Shape shape) { return Tensor::empty(std::move(shape), x.dtype(), in.device()); };
  const Tensor y = fresh(x.shape()), mean = fresh({rows}), rstd = fresh({rows});
  const bool plain = !h.defined() && (masks_output || !drop.active());
  const bool recorded = needs_graph({x, weight, bias, h});
  const Tensor s = plain ? in : recorded ? fresh(x.shape()) : Tensor();
  visit_floating(x.dtype(), op, [&]<class T>(T) {
    const Exec exec = compute::exec_of(y);
    layernorm_forward<T>(
        exec, {rows, D, in.data<T>(), h.defined() ? residual.data<T>() : nullptr, mask_of(drop), w.data<T>(),
               b.data<T>(), eps, plain || !recorded ? nullptr : s.data<T>(), y.data<T>(), mean.data<T>(),
               rstd.data<T>(), compute::round_into(exec, y), masks_output});
  });
  if (!recorded) return Variable(y);

  std::vector<Variable> inputs = {x, weight, bias};
  if (h.defined()) inputs.push_back(h);
  return make_output(
      op, y, std::move(inputs),
      [op, rows, D, s = Saved(s), mean, rstd, w = Saved(w), drop, counter = Saved(drop.counter),
       has_residual = h.defined(), masks_output](const BackwardContext& ctx) {
        counter.get(op);
        // In the order in which the kernel writes them: h and x may be one variable.
        const GradSink dh = has_residual ? ctx.sink(3) : GradSink();
        const GradSink dx = ctx.sink(0), dweight = ctx.sink(1), dbias = ctx.sink(2);
        visit_floating(ctx.grad().dtype(), op, [&]<class T>(T) {
          const auto out = [](const GradSink& sink) { return sink ? sink.tensor.data<T>() : nullptr; };
          const Exec exec = compute::exec_of(ctx.grad());
          // One row may be the weight or the bias too, and be added to afterwards.
          const bool alone = rows > 1;
          LayernormBackward<T> args{rows,
                                    D,
                                    ctx.grad().data<T>(),
                                    s.get(op).data<T>(),
                                    mean.data<T>(),
                                    rstd.data<T>(),
                                    w.get(op).data<T>(),
                                    mask_of(drop),
                                    out(dx),
                                    out(dh),
                                    out(dweight),
                                    out(dbias),
                                    dx.add,
                                    dh.add,
                                    dweight.add,
                                    dbias.add,
                                    alone ? compute::round_into(exec, dx) : nullptr,
                                    masks_output};
          cu::PartialSums sums;
          if constexpr (kWithCuda && kOnCuda<T>)
            if (exec.device == Device::cuda && alone)
              sums = compute::sums_into(dx, cu::layernorm_dx_pieces(args));
          args.dx_sums = sums.data();
          if (compute::write_copy_alone(dx, args.dx_rounded, sums)) args.dx = nullptr;
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
  return normalize("residual_layernorm", h, x, drop, weight, bias, eps);
}

}  // namespace wedge
