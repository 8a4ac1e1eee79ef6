#include "kernels/linear_cross_entropy.h"

#include <optional>

#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/factor.h"
#include "autograd/ops/indices.h"

namespace wedge {
namespace {

// [V, D] with room for padded_classes(V) rows, like `like`.
Tensor empty_padded(std::int64_t V, std::int64_t D, const Tensor& like) {
  return Tensor::empty({padded_classes(V), D}, like.dtype(), like.device()).slice(0, 0, V);
}

// sink (+)= grad · gradient, grad a scalar
void scale_into(const GradSink& sink, const Tensor& grad, const Tensor& gradient) {
  visit_floating(grad.dtype(), "linear_cross_entropy", [&]<class T>(T) {
    axpy<T>(compute::exec_of(gradient),
            {gradient.numel(), T(1), grad.data<T>(), gradient.data<T>(), sink.of<T>()});
  });
}

// G of the last rows, on a GPU.
class LaterGradient {
 public:
  LaterGradient() = default;
  LaterGradient(const Tensor& x, std::int64_t rows, std::int64_t V) {
    if constexpr (kWithCuda) {
      const Exec exec = compute::exec_of(x);
      if (exec.device != Device::cuda) return;
      const cu::HeadRows kept = cu::linear_cross_entropy_kept_rows(exec, rows, V);
      rows_ = kept.last;
      kept_ = Tensor::empty({kept.part, padded_classes(V)}, exec.bf16_products ? DType::bf16 : x.dtype(),
                            x.device());
    }
  }
  std::int64_t rows() const { return rows_; }
  void* kept() const { return kept_.defined() ? kept_.raw() : nullptr; }

  // dweight [V, D] (+)= Gᵀ x of these rows, beside what follows; with zeros for the classes that make V a
  // multiple of 8, where there is room for them.
  void add(const GradSink& dweight, const Tensor& x) const {
    const std::int64_t V = dweight.tensor.size(0), D = x.size(-1), padded = padded_classes(V),
                       first = x.numel() - rows_ * D;
    const bool rounds = kept_.dtype() == DType::bf16;
    Exec exec = compute::exec_of(x);
    exec.bf16_products = rounds;
    std::optional<Factor> factor;
    if (rounds) factor = activation_factor(exec, x);
    const Gemm<float> product{.M = dweight.tensor.capacity() >= padded * D ? padded : V,
                              .N = D,
                              .K = rows_,
                              .A = transposed(rounds ? nullptr : kept_.data<float>(), padded,
                                              rounds ? kept_.data<BFloat16>() : nullptr),
                              .B = {x.data<float>() + first, D, rounds ? factor->data() + first : nullptr},
                              .C = {dweight.tensor.data<float>(), D},
                              .beta = dweight.add ? 1.0f : 0.0f};
    compute::beside(exec, dweight, {kept_, rounds ? factor->tensor() : x},
                    [&](const Exec& aside) { gemm<float>(aside, product); });
  }

 private:
  std::int64_t rows_ = 0;
  Tensor kept_;
};

}  // namespace

Variable linear_cross_entropy(const Variable& x, const Variable& weight, const Tensor& targets) {
  compute::check_operands("linear_cross_entropy", {{"x", x}, {"weight", weight}});
  Shape lead = x.shape();
  WEDGE_CHECK(!lead.empty() && weight.value().rank() == 2 && weight.size(1) == lead.back(),
              "linear_cross_entropy: expected x [..., D] and weight [V, D], got {} and {}",
              to_string(x.shape()), to_string(weight.shape()));
  const std::int64_t D = lead.back(), V = weight.size(0);
  lead.pop_back();
  const std::int64_t rows = numel(lead);
  WEDGE_CHECK(targets.shape() == lead && rows > 0,
              "linear_cross_entropy: targets must be {} and not empty, got {}", to_string(lead),
              to_string(targets.shape()));

  const Tensor in = x.value().contiguous(), w = weight.value().contiguous();
  const Tensor ids = checked_indices("linear_cross_entropy", targets, V, in);
  const Tensor loss = Tensor::empty({}, x.dtype(), in.device());
  // The gradients of this loss, made while the logits are at hand; backward only scales them. On a GPU
  // dweight of the last rows, mostly of all, is left to backward, and may be made where it goes.
  const bool wants_dw = needs_graph({weight});
  const Tensor dx = needs_graph({x}) ? Tensor::empty({rows, D}, x.dtype(), in.device()) : Tensor();
  const LaterGradient later = wants_dw ? LaterGradient(in, rows, V) : LaterGradient();
  const Tensor dw = wants_dw && later.rows() < rows ? empty_padded(V, D, in) : Tensor();
  visit_floating(x.dtype(), "linear_cross_entropy", [&]<class T>(T) {
    const Exec exec = compute::exec_of(loss);
    linear_cross_entropy<T>(
        exec,
        {rows, V, D, in.data<T>(), w.data<T>(), ids.data<std::int32_t>(), loss.data<T>(),
         compute::data_or_null<T>(dx), compute::data_or_null<T>(dw), compute::rounded_activation(exec, in),
         compute::rounded(exec, w, padded_classes(1)), Bf16Copy(w).rows(), later.kept()});
  });
  const Saved factor = later.rows() > 0 ? Saved(in) : Saved();
  return make_output("linear_cross_entropy", loss, {x, weight},
                     [dx, dw, later, factor, V, D, in_shape = in.shape()](const BackwardContext& ctx) {
                       if (dx.defined() && ctx.grad_is_one())
                         ctx.accumulate(0, dx.reshape(in_shape));
                       else if (const GradSink sink = ctx.sink(0))
                         scale_into(sink, ctx.grad(), dx);
                       GradSink sink = ctx.sink(1);
                       if (!sink) return;
                       if (later.rows() == 0) return scale_into(sink, ctx.grad(), dw);
                       const Tensor& x = factor.get("linear_cross_entropy");
                       if (!ctx.grad_is_one()) {
                         const Tensor whole = dw.defined() ? dw : empty_padded(V, D, x);
                         later.add({whole, dw.defined()}, x);
                         return scale_into(sink, ctx.grad(), whole);
                       }
                       if (dw.defined()) {
                         scale_into(sink, ctx.grad(), dw);
                         sink.add = true;
                       }
                       later.add(sink, x);
                     });
}

}  // namespace wedge
