#include "kernels/gate_layernorm.h"

#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/dropout_mask.h"
#include "autograd/ops/factor.h"
#include "autograd/ops/gate.h"

namespace wedge {
namespace {

// Dense and from an address on that 16 bytes can be read from, unlike some slices.
Tensor aligned(const Tensor& t) {
  if (!t.defined()) return t;
  const Tensor dense = t.contiguous();
  return reinterpret_cast<std::uintptr_t>(dense.raw()) % 16 == 0 ? dense : dense.clone();
}

// A sink as the kernel can write it: itself, or, where it is none of its own or not aligned, a tensor whose
// contents finish() hands on.
class Target {
 public:
  Target(const GradSink& sink, bool shared) : sink_(sink) {
    if (sink && (shared || reinterpret_cast<std::uintptr_t>(sink.tensor.raw()) % 16 != 0))
      apart_ = Tensor::empty(sink.tensor.shape(), DType::f32, sink.tensor.device());
  }
  Sink<float> sink() const {
    return apart_.defined() ? Sink<float>{apart_.data<float>()} : sink_.of<float>();
  }
  // The copy and the column sums that the kernel makes of what it leaves there: none where it writes apart,
  // and none of one row, which may be a parameter of this op as well and be added to afterwards.
  BFloat16* rounded(const Exec& exec, std::int64_t rows) const {
    return apart_.defined() || rows == 1 ? nullptr : compute::round_into(exec, sink_);
  }
  cu::PartialSums sums([[maybe_unused]] std::int64_t rows) const {
    if constexpr (kWithCuda)
      if (!apart_.defined() && rows > 1) return compute::sums_into(sink_, cu::gate_layernorm_pieces(rows));
    return {};
  }
  void finish() const {
    if (!apart_.defined()) return;
    if (sink_.add)
      compute::add_into(sink_.tensor, apart_);
    else
      sink_.tensor.copy_from(apart_);
  }

 private:
  GradSink sink_;
  Tensor apart_;
};

// On the GPU, with products of bfloat16 factors; shapes and dtypes are checked.
Variable fused(const Variable& h, const Variable& g, const Variable& weight, const Variable& bias,
               const Variable& norm_weight, const Variable& norm_bias, const Dropout& drop, double eps) {
  constexpr const char* kName = "gate_layernorm";
  const std::int64_t D = h.size(-1), rows = h.value().numel() / D;
  const Tensor a = aligned(h.value()), b = aligned(g.value()), w = weight.value().contiguous();
  const Tensor c = compute::dense_or_none(bias);
  const Tensor nw = aligned(norm_weight.value()), nb = aligned(norm_bias.value());
  const bool recorded = needs_graph({h, g, weight, bias, norm_weight, norm_bias});
  const auto fresh = [&](Shape shape, DType dtype) {
    return Tensor::empty(std::move(shape), dtype, a.device());
  };
  const auto saved = [&](Shape shape, DType dtype) {
    return recorded ? fresh(std::move(shape), dtype) : Tensor();
  };
  const Tensor y = fresh(h.shape(), DType::f32), alpha = saved({rows, D}, DType::f32),
               hg = saved({rows, 2 * D}, DType::bf16), mean = saved({rows}, DType::f32),
               rstd = saved({rows}, DType::f32);
  const Exec exec = exec_with_bf16_products(y);
  if constexpr (kWithCuda)
    cu::gate_layernorm_forward(exec, {.rows = rows,
                                      .D = D,
                                      .h = a.data<float>(),
                                      .g = b.data<float>(),
                                      .weight = weight_factor(exec, w).data(),
                                      .bias = compute::data_or_null<float>(c),
                                      .norm_weight = nw.data<float>(),
                                      .norm_bias = nb.data<float>(),
                                      .eps = eps,
                                      .mask = mask_of(drop),
                                      .alpha = compute::data_or_null<float>(alpha),
                                      .hg_rounded = compute::data_or_null<BFloat16>(hg),
                                      .mean = compute::data_or_null<float>(mean),
                                      .rstd = compute::data_or_null<float>(rstd),
                                      .y = y.data<float>(),
                                      .y_rounded = compute::round_into(exec, y)});
  if (!recorded) return Variable(y);

  return make_output(
      kName, y, {h, g, weight, norm_weight, norm_bias, bias},
      [rows, D, a = Saved(a), b = Saved(b), w = Saved(w), nw = Saved(nw), alpha, hg, mean, rstd, drop,
       counter = Saved(drop.counter)](const BackwardContext& ctx) {
        if (drop.active()) counter.get(kName);
        const Tensor dy = aligned(ctx.grad()), du = Tensor::empty({rows, D}, DType::bf16, alpha.device());
        const Exec exec = exec_with_bf16_products(alpha);
        const GradSink of_h = ctx.sink(0), of_g = ctx.sink(1);
        // h and g may be one variable: dh is written first then, and dg added to it.
        const Target dh(of_h, false), dg(of_g, of_h && of_g && of_h.tensor.raw() == of_g.tensor.raw());
        const GradSink dnw = ctx.sink(3), dnb = ctx.sink(4), db = ctx.sink(5);
        cu::PartialSums dg_sums = dg.sums(rows);
        BFloat16* const dg_rounded = dg.rounded(exec, rows);
        const bool copy_alone = compute::write_copy_alone(of_g, dg_rounded, dg_sums);
        if constexpr (kWithCuda)
          cu::gate_layernorm_backward(exec, {.rows = rows,
                                             .D = D,
                                             .dy = dy.data<float>(),
                                             .h = a.get(kName).data<float>(),
                                             .g = b.get(kName).data<float>(),
                                             .alpha = alpha.data<float>(),
                                             .mean = mean.data<float>(),
                                             .rstd = rstd.data<float>(),
                                             .weight = weight_factor(exec, w.get(kName)).data(),
                                             .norm_weight = nw.get(kName).data<float>(),
                                             .mask = mask_of(drop),
                                             .du = du.data<BFloat16>(),
                                             .dh = dh.sink(),
                                             .dg = copy_alone ? Sink<float>() : dg.sink(),
                                             .dg_rounded = dg_rounded,
                                             .dg_sums = dg_sums.data(),
                                             .dnorm_weight = dnw.of<float>(),
                                             .dnorm_bias = dnb.of<float>(),
                                             .dbias = db.of<float>()});
        dh.finish();
        dg.finish();
        if (dg_sums) ctx.give_sums(1, std::move(dg_sums));
        if (const GradSink dw = ctx.sink(2)) RoundedLinear{rows, 2 * D, D}.weight_gradient(exec, du, hg, dw);
      });
}

}  // namespace

Variable gate_layernorm(const Variable& h, const Variable& g, const Variable& weight, const Variable& bias,
                        const Variable& norm_weight, const Variable& norm_bias, const Dropout& drop,
                        double eps) {
  check_gate("gate_layernorm", h, g, weight, bias);
  compute::check_operands("gate_layernorm",
                          {{"h", h}, {"norm_weight", norm_weight}, {"norm_bias", norm_bias}});
  check_dropout("gate_layernorm", drop, h);
  check_eps("gate_layernorm", eps);
  const std::int64_t D = h.size(-1);
  WEDGE_CHECK(norm_weight.shape() == Shape{D} && norm_bias.shape() == Shape{D},
              "gate_layernorm: norm_weight and norm_bias must be [{}], got {} and {}", D,
              to_string(norm_weight.shape()), to_string(norm_bias.shape()));
  if constexpr (kWithCuda) {
    const bool in_one = compute::exec_of(h.value()).bf16_products && h.dtype() == DType::f32 &&
                        h.value().numel() > 0 && cu::has_gate_layernorm(D);
    if (in_one) return fused(h, g, weight, bias, norm_weight, norm_bias, drop, eps);
  }
  return layernorm_dropout(gate_blend(h, g, weight, bias), norm_weight, norm_bias, drop, eps);
}

}  // namespace wedge
