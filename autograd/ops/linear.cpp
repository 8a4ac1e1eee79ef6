#include "kernels/linear.h"

#include "autograd/compute.h"
#include "autograd/ops.h"
#include "kernels/matmul.h"

namespace wedge {
namespace {

// x as [rows, K], weight as [N, K]: the sizes of y = x Wᵀ.
struct LinearShape {
  std::int64_t rows, K, N;
  Shape out;
};

LinearShape check_linear(const char* op, const Variable& x, const Variable& weight, const Variable& bias) {
  compute::check_operands(op, {{"x", x}, {"weight", weight}, {"bias", bias, true}});
  WEDGE_CHECK(x.value().rank() >= 1 && weight.value().rank() == 2 && weight.size(1) == x.size(-1),
              "{}: expected x [..., K] and weight [N, K], got {} and {}", op, to_string(x.shape()),
              to_string(weight.shape()));
  WEDGE_CHECK(!bias.defined() || bias.shape() == Shape{weight.size(0)}, "{}: bias must be [{}], got {}", op,
              weight.size(0), to_string(bias.shape()));
  LinearShape s{0, x.size(-1), weight.size(0), x.shape()};
  s.rows = numel(Shape(s.out.begin(), s.out.end() - 1));
  s.out.back() = s.N;
  return s;
}

// y = x Wᵀ (+ bias, null for none)
template <class T>
void product(const LinearShape& s, const Tensor& x, const Tensor& weight, const T* bias, const Tensor& y) {
  const Exec exec = compute::exec_of(y);
  linear_forward<T>(exec, {s.rows, s.K, s.N, x.data<T>(), weight.data<T>(), bias, y.data<T>(),
                           compute::rounded_activation(exec, x), compute::rounded(exec, weight)});
}

// The gradient of a layer's output: `values`, its bfloat16 copy or both, of the tensor that holds them.
template <class T>
struct OutputGradient {
  const T* values;
  const BFloat16* rounded;
  Tensor tensor;
};

// dx (+)= dy W, dW (+)= dyᵀ x and dbias (+)= Σ dy, into inputs 0 and 1 and the sink given.
template <class T>
void product_backward(const BackwardContext& ctx, const LinearShape& s, const OutputGradient<T>& dy,
                      const Tensor& x, const Tensor& weight, const GradSink& db) {
  const Exec exec = compute::exec_of(x);
  if (db) linear_dbias<T>(exec, {s.rows, s.N, dy.values, db.of<T>(), dy.rounded});
  if (const GradSink dw = ctx.sink(1)) {
    const Gemm<T> product{.M = s.N,
                          .N = s.K,
                          .K = s.rows,
                          .A = transposed(dy.values, s.N, dy.rounded),
                          .B = {x.data<T>(), s.K, compute::rounded_activation(exec, x)},
                          .C = {dw.tensor.data<T>(), s.K},
                          .beta = dw.add ? T(1) : T(0)};
    compute::beside(exec, dw, {dy.tensor, x}, [&](const Exec& aside) { gemm<T>(aside, product); });
  }
  if (const GradSink dx = ctx.sink(0))
    gemm<T>(exec, {.M = s.rows,
                   .N = s.K,
                   .K = s.N,
                   .A = {dy.values, s.N, dy.rounded},
                   .B = {weight.data<T>(), s.K, compute::rounded(exec, weight)},
                   .C = {dx.tensor.data<T>(), s.K},
                   .beta = dx.add ? T(1) : T(0)});
}

}  // namespace

Variable linear(const Variable& x, const Variable& weight, const Variable& bias) {
  const LinearShape s = check_linear("linear", x, weight, bias);
  const Tensor in = x.value().contiguous(), w = weight.value().contiguous();
  const Tensor y = Tensor::empty(s.out, x.dtype(), in.device());
  visit_floating(x.dtype(), "linear", [&]<class T>(T) {
    const Tensor b = compute::dense_or_none(bias);
    product<T>(s, in, w, compute::data_or_null<T>(b), y);
  });
  return make_output("linear", y, {x, weight, bias},
                     [s, in = Saved(in), w = Saved(w)](const BackwardContext& ctx) {
                       const Tensor& dy = ctx.grad();
                       visit_floating(dy.dtype(), "linear", [&]<class T>(T) {
                         const GradSink db = ctx.sink(2);
                         const bool done = compute::add_up_sums(ctx, db);
                         product_backward<T>(
                             ctx, s,
                             {dy.data<T>(), compute::rounded_activation(compute::exec_of(dy), dy), dy},
                             in.get("linear"), w.get("linear"), done ? GradSink() : db);
                       });
                     },
                     {.is_factor = true, .is_summed = bias.requires_grad()});
}

Variable linear_gelu(const Variable& x, const Variable& weight, const Variable& bias) {
  const LinearShape s = check_linear("linear_gelu", x, weight, bias);
  const Tensor in = x.value().contiguous(), w = weight.value().contiguous();
  const Tensor u = Tensor::empty(s.out, x.dtype(), in.device()),
               y = Tensor::empty(s.out, x.dtype(), in.device());
  visit_floating(x.dtype(), "linear_gelu", [&]<class T>(T) {
    product<T>(s, in, w, nullptr, u);
    const Tensor b = compute::dense_or_none(bias);
    const Exec exec = compute::exec_of(y);
    bias_gelu_forward<T>(exec, {s.rows, s.N, compute::data_or_null<T>(b), u.data<T>(), y.data<T>(),
                                compute::round_into(exec, y)});
  });
  return make_output(
      "linear_gelu", y, {x, weight, bias}, [s, in = Saved(in), w = Saved(w), u](const BackwardContext& ctx) {
        const Tensor& dy = ctx.grad();
        const GradSink db = ctx.sink(2);
        // du in bfloat16 alone, where that is what the products take
        const Tensor du_copy = compute::empty_rounded(compute::exec_of(dy), dy);
        const Tensor du = du_copy.defined() ? Tensor() : Tensor::empty(dy.shape(), dy.dtype(), dy.device());
        visit_floating(dy.dtype(), "linear_gelu", [&]<class T>(T) {
          bias_gelu_backward<T>(compute::exec_of(dy),
                                {s.rows, s.N, u.data<T>(), dy.data<T>(), compute::data_or_null<T>(du),
                                 db.of<T>(), compute::data_or_null<BFloat16>(du_copy)});
          product_backward<T>(ctx, s,
                              {compute::data_or_null<T>(du), compute::data_or_null<BFloat16>(du_copy),
                               du.defined() ? du : du_copy},
                              in.get("linear_gelu"), w.get("linear_gelu"), GradSink());
        });
      });
}

}  // namespace wedge
