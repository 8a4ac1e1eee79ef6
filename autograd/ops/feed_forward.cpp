#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/factor.h"
#include "kernels/linear.h"
#include "kernels/matmul.h"

namespace wedge {
namespace {

struct FeedForwardShape {
  std::int64_t rows, K, N, M;
  Shape out;
};

FeedForwardShape check_shapes(const Variable& x, const Variable& up, const Variable& a, const Variable& down,
                              const Variable& b) {
  compute::check_operands(
      "feed_forward", {{"x", x}, {"up_weight", up}, {"up_bias", a}, {"down_weight", down}, {"down_bias", b}});
  WEDGE_CHECK(x.value().rank() >= 1 && up.value().rank() == 2 && down.value().rank() == 2 &&
                  up.size(1) == x.size(-1) && down.size(1) == up.size(0),
              "feed_forward: expected x [..., K], up [N, K] and down [M, N], got {}, {} and {}",
              to_string(x.shape()), to_string(up.shape()), to_string(down.shape()));
  WEDGE_CHECK(a.shape() == Shape{up.size(0)} && b.shape() == Shape{down.size(0)},
              "feed_forward: expected biases [{}] and [{}], got {} and {}", up.size(0), down.size(0),
              to_string(a.shape()), to_string(b.shape()));
  FeedForwardShape s{0, x.size(-1), up.size(0), down.size(0), x.shape()};
  s.rows = numel(Shape(s.out.begin(), s.out.end() - 1));
  s.out.back() = s.M;
  return s;
}

// On the GPU, with products of bfloat16 factors, whose float32 originals these do not need.
Variable fused(const FeedForwardShape& s, const Variable& x, const Variable& up, const Variable& a,
               const Variable& down, const Variable& b) {
  const Tensor in = x.value().contiguous(), w1 = up.value().contiguous(), w2 = down.value().contiguous();
  const Tensor bias = a.value().contiguous(), down_bias = b.value().contiguous();
  const Tensor y = Tensor::empty(s.out, DType::f32, in.device());
  const Tensor u = Tensor::empty({s.rows, s.N}, DType::bf16, in.device());  // x Upᵀ, without the bias
  const Tensor g = Tensor::empty({s.rows, s.N}, DType::bf16, in.device());  // its GELU
  const Exec exec = exec_with_bf16_products(y);
  const Factor x_factor = activation_factor(exec, in), up_factor = weight_factor(exec, w1),
               down_factor = weight_factor(exec, w2);
  gemm<BFloat16>(exec, {.M = s.rows,
                        .N = s.N,
                        .K = s.K,
                        .A = {x_factor.data(), s.K},
                        .B = transposed(up_factor.data(), s.K),
                        .C = {u.data<BFloat16>(), s.N}});
  if constexpr (kWithCuda)
    cu::gelu_of_rounded(exec, {s.rows, s.N, u.data<BFloat16>(), bias.data<float>(), g.data<BFloat16>()});
  linear_forward<float>(exec, {s.rows, s.N, s.M, nullptr, nullptr, down_bias.data<float>(), y.data<float>(),
                               g.data<BFloat16>(), down_factor.data()});

  const SavedFactor saved_x(x_factor, in);
  return make_output(
      "feed_forward", y, {x, up, a, down, b},
      [s, saved_x, w1 = Saved(w1), w2 = Saved(w2), bias = Saved(bias), u, g](const BackwardContext& ctx) {
        const Tensor& dy = ctx.grad();
        const Exec exec = exec_with_bf16_products(dy);
        const Factor dy_factor = activation_factor(exec, dy);
        const RoundedLinear up{s.rows, s.K, s.N}, down{s.rows, s.N, s.M};
        const GradSink dw2 = ctx.sink(3), db2 = ctx.sink(4);
        if (!compute::add_up_sums(ctx, db2))
          down.bias_gradient(exec, dy.data<float>(), dy_factor.data(), db2);
        down.weight_gradient(exec, dy_factor, g, dw2);
        const Tensor dg = Tensor::empty({s.rows, s.N}, DType::bf16, dy.device());
        const Tensor du = Tensor::empty({s.rows, s.N}, DType::bf16, dy.device());
        down.input_gradient(exec, dy_factor.data(), weight_factor(exec, w2.get("feed_forward")).data(),
                            dg.data<BFloat16>());
        // Each sink is asked for when it is written: two of the inputs may be one variable.
        const GradSink db = ctx.sink(2);
        if constexpr (kWithCuda)
          cu::gelu_of_rounded_backward(
              exec, {s.rows, s.N, u.data<BFloat16>(), bias.get("feed_forward").data<float>(),
                     dg.data<BFloat16>(), du.data<BFloat16>(), db.of<float>()});
        if (const GradSink dw = ctx.sink(1)) up.weight_gradient(exec, du, saved_x.get("feed_forward"), dw);
        if (const GradSink dx = ctx.sink(0))
          up.input_gradient(exec, du.data<BFloat16>(), weight_factor(exec, w1.get("feed_forward")).data(),
                            dx);
      },
      {.is_factor = true, .is_summed = b.requires_grad(), .reads_copy_alone = true});
}

}  // namespace

Variable feed_forward(const Variable& x, const Variable& up_weight, const Variable& up_bias,
                      const Variable& down_weight, const Variable& down_bias) {
  const FeedForwardShape s = check_shapes(x, up_weight, up_bias, down_weight, down_bias);
  const bool empty = s.rows * s.K * s.N * s.M == 0;
  if (compute::exec_of(x.value()).bf16_products && x.dtype() == DType::f32 && !empty)
    return fused(s, x, up_weight, up_bias, down_weight, down_bias);
  return linear(linear_gelu(x, up_weight, up_bias), down_weight, down_bias);
}

}  // namespace wedge
