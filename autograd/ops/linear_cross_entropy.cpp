#include "kernels/linear_cross_entropy.h"

#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/indices.h"

namespace wedge {

Variable linear_cross_entropy(const Variable& x, const Variable& weight, const Tensor& targets) {
  Shape lead = x.shape();
  WEDGE_CHECK(!lead.empty() && weight.value().rank() == 2 && weight.size(1) == lead.back() &&
                  weight.dtype() == x.dtype(),
              "linear_cross_entropy: expected x [..., D] and weight [V, D] of one dtype, got {} and {}",
              to_string(x.shape()), to_string(weight.shape()));
  const std::int64_t D = lead.back(), V = weight.size(0);
  lead.pop_back();
  const std::int64_t rows = numel(lead);
  WEDGE_CHECK(targets.shape() == lead && rows > 0,
              "linear_cross_entropy: targets must be {} and not empty, got {}", to_string(lead),
              to_string(targets.shape()));

  const Tensor in = x.value().contiguous(), w = weight.value().contiguous();
  const Tensor ids = checked_indices("linear_cross_entropy", targets, V, in);
  compute::check_one_device("linear_cross_entropy", {&in, &w});
  const Tensor loss = Tensor::empty({}, x.dtype(), in.device());
  // The gradients of this loss, made while the logits are at hand; backward only scales them.
  const Tensor dx = needs_graph({x}) ? Tensor::empty({rows, D}, x.dtype(), in.device()) : Tensor();
  Tensor dw;
  if (needs_graph({weight}))
    dw = Tensor::empty({padded_classes(V), D}, x.dtype(), in.device()).slice(0, 0, V);
  visit_floating(x.dtype(), "linear_cross_entropy", [&]<class T>(T) {
    const auto out = [](const Tensor& t) { return t.defined() ? t.data<T>() : nullptr; };
    const Exec exec = compute::exec_of(loss);
    linear_cross_entropy<T>(exec, {rows, V, D, in.data<T>(), w.data<T>(), ids.data<std::int32_t>(),
                                   loss.data<T>(), out(dx), out(dw), compute::rounded_activation(exec, in),
                                   compute::rounded(exec, w, padded_classes(1)), w.bf16_copy_rows()});
  });
  return make_output(
      "linear_cross_entropy", loss, {x, weight}, [dx, dw, in_shape = in.shape()](const BackwardContext& ctx) {
        visit_floating(ctx.grad().dtype(), "linear_cross_entropy", [&]<class T>(T) {
          const auto give = [&](int i, const Tensor& gradient) {
            if (const GradSink sink = ctx.sink(i))
              axpy<T>(compute::exec_of(gradient), {gradient.numel(), T(1), ctx.grad().data<T>(),
                                                   gradient.data<T>(), sink.tensor.data<T>(), sink.add});
          };
          if (dx.defined() && ctx.grad_is_one())
            ctx.accumulate(0, dx.reshape(in_shape));
          else
            give(0, dx);
          give(1, dw);
        });
      });
}

}  // namespace wedge
