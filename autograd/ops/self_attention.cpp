
#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/factor.h"
#include "kernels/causal_attention.h"
#include "kernels/linear.h"

namespace wedge {
namespace {

// x [B, L, K], qkv_weight [3 D, K], out_weight [M, D]
struct AttentionShape {
  std::int64_t B, L, K, D, M, H;
  std::int64_t rows() const { return B * L; }
};

AttentionShape check_shapes(const Variable& x, const Variable& qkv_weight, const Variable& qkv_bias,
                            const Variable& out_weight, const Variable& out_bias, std::int64_t num_heads) {
  constexpr const char* kName = "self_attention";
  compute::check_operands(kName, {{"x", x},
                                  {"qkv_weight", qkv_weight},
                                  {"qkv_bias", qkv_bias},
                                  {"out_weight", out_weight},
                                  {"out_bias", out_bias}});
  WEDGE_CHECK(x.value().rank() == 3 && qkv_weight.value().rank() == 2 && out_weight.value().rank() == 2 &&
                  qkv_weight.size(1) == x.size(2) && qkv_weight.size(0) == 3 * out_weight.size(1),
              "{}: expected x [B, L, K], qkv_weight [3 D, K] and out_weight [M, D], got {}, {} and {}", kName,
              to_string(x.shape()), to_string(qkv_weight.shape()), to_string(out_weight.shape()));
  const AttentionShape s{x.size(0), x.size(1), x.size(2), out_weight.size(1), out_weight.size(0), num_heads};
  WEDGE_CHECK(num_heads >= 1 && s.D > 0 && s.D % num_heads == 0,
              "{}: expected D to be a multiple of {} heads, got {}", kName, num_heads, s.D);
  WEDGE_CHECK(qkv_bias.shape() == Shape{3 * s.D} && out_bias.shape() == Shape{s.M},
              "{}: expected biases [{}] and [{}], got {} and {}", kName, 3 * s.D, s.M,
              to_string(qkv_bias.shape()), to_string(out_bias.shape()));
  return s;
}

// On the GPU, with products of bfloat16 factors: q, k, v and the heads' outputs, which only products read,
// are bfloat16, and so are their gradients.
Variable fused(const AttentionShape& s, const Variable& x, const Variable& qkv_weight,
               const Variable& qkv_bias, const Variable& out_weight, const Variable& out_bias) {
  constexpr const char* kName = "self_attention";
  const Tensor in = x.value().contiguous(), w1 = qkv_weight.value().contiguous(),
               w2 = out_weight.value().contiguous();
  const Tensor b1 = qkv_bias.value().contiguous(), b2 = out_bias.value().contiguous();
  const auto rounded = [&](Shape shape) { return Tensor::empty(std::move(shape), DType::bf16, in.device()); };
  const Tensor y = Tensor::empty({s.B, s.L, s.M}, DType::f32, in.device());
  const Tensor qkv = rounded({s.B, s.L, 3 * s.D}), o = rounded({s.B, s.L, s.D});
  const Tensor lse = Tensor::empty({s.B, s.H, s.L}, DType::f32, in.device());
  const Exec exec = exec_with_bf16_products(y);
  const Factor x_factor = activation_factor(exec, in);
  linear_forward<BFloat16>(exec, {s.rows(), s.K, 3 * s.D, x_factor.data(), weight_factor(exec, w1).data(),
                                  weight_factor(exec, b1).data(), qkv.data<BFloat16>()});
  causal_attention_forward<BFloat16>(
      exec, {s.B, s.L, s.H, s.D, qkv.data<BFloat16>(), o.data<BFloat16>(), lse.data<float>()});
  linear_forward<float>(exec, {s.rows(), s.D, s.M, nullptr, nullptr, b2.data<float>(), y.data<float>(),
                               o.data<BFloat16>(), weight_factor(exec, w2).data()});

  const SavedFactor saved_x(x_factor, in);
  return make_output(kName, y, {x, qkv_weight, qkv_bias, out_weight, out_bias},
                     [s, saved_x, w1 = Saved(w1), w2 = Saved(w2), qkv, o, lse](const BackwardContext& ctx) {
                       const Tensor& dy = ctx.grad();
                       const Exec exec = exec_with_bf16_products(dy);
                       const Factor dy_factor = activation_factor(exec, dy);
                       const RoundedLinear qkv_layer{s.rows(), s.K, 3 * s.D}, out_layer{s.rows(), s.D, s.M};
                       // Each sink is asked for when it is written: two of the inputs may be one variable.
                       const GradSink dw2 = ctx.sink(3), db2 = ctx.sink(4);
                       if (!compute::add_up_sums(ctx, db2))
                         out_layer.bias_gradient(exec, dy.data<float>(), dy_factor.data(), db2);
                       out_layer.weight_gradient(exec, dy_factor, o, dw2);
                       const Tensor d_o = Tensor::empty(o.shape(), DType::bf16, dy.device());
                       const Tensor dqkv = Tensor::empty(qkv.shape(), DType::bf16, dy.device());
                       out_layer.input_gradient(exec, dy_factor.data(),
                                                weight_factor(exec, w2.get(kName)).data(),
                                                d_o.data<BFloat16>());
                       const GradSink dw1 = ctx.sink(1), db1 = ctx.sink(2);
                       CausalAttentionBackward<BFloat16> args{.B = s.B,
                                                              .L = s.L,
                                                              .H = s.H,
                                                              .D = s.D,
                                                              .qkv = qkv.data<BFloat16>(),
                                                              .o = o.data<BFloat16>(),
                                                              .lse = lse.data<float>(),
                                                              .dout = d_o.data<BFloat16>(),
                                                              .dqkv = {dqkv.data<BFloat16>()}};
                       cu::PartialSums sums;
                       if constexpr (kWithCuda)
                         if (db1)
                           sums = cu::PartialSums(cu::causal_attention_dqkv_pieces(exec, args), 3 * s.D);
                       args.dqkv_sums = sums.data();
                       causal_attention_backward<BFloat16>(exec, args);
                       if constexpr (kWithCuda)
                         if (sums) cu::add_up(exec.stream, sums, db1.of<float>());
                       if (!sums) qkv_layer.bias_gradient(exec, nullptr, dqkv.data<BFloat16>(), db1);
                       qkv_layer.weight_gradient(exec, dqkv, saved_x.get(kName), dw1);
                       if (const GradSink dx = ctx.sink(0))
                         qkv_layer.input_gradient(exec, dqkv.data<BFloat16>(),
                                                  weight_factor(exec, w1.get(kName)).data(), dx);
                     },
                     {.is_factor = true, .is_summed = out_bias.requires_grad(), .reads_copy_alone = true});
}

}  // namespace

Variable self_attention(const Variable& x, const Variable& qkv_weight, const Variable& qkv_bias,
                        const Variable& out_weight, const Variable& out_bias, std::int64_t num_heads) {
  const AttentionShape s = check_shapes(x, qkv_weight, qkv_bias, out_weight, out_bias, num_heads);
  const bool empty = s.rows() * s.K * s.D * s.M == 0;
  if (compute::exec_of(x.value()).bf16_products && x.dtype() == DType::f32 && !empty)
    return fused(s, x, qkv_weight, qkv_bias, out_weight, out_bias);
  return linear(causal_attention(linear(x, qkv_weight, qkv_bias), num_heads), out_weight, out_bias);
}

}  // namespace wedge
