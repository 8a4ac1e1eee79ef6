#include "autograd/compute.h"
#include "autograd/ops.h"

namespace wedge {
namespace {

Variable unary(const char* name, UnaryOp op, const Variable& x) {
  compute::check_operands(name, {{"x", x}});
  const Tensor input = x.value().contiguous();
  const Tensor y = compute::unary(op, input);
  return make_output(
      name, y, {x}, [name, op, input = Saved(input), output = Saved(y)](const BackwardContext& ctx) {
        const GradSink dx = ctx.sink(0);
        const Tensor &in = input.get(name), &y = output.get(name);
        visit_floating(y.dtype(), name, [&]<class T>(T) {
          unary_backward<T>(compute::exec_of(y),
                            {op, y.numel(), in.data<T>(), y.data<T>(), ctx.grad().data<T>(), dx.of<T>()});
        });
      });
}

// A number as a tensor that broadcasts against x, for `op`.
Variable number(const char* op, double c, const Variable& x) {
  compute::check_operands(op, {{"x", x}});
  return Variable(Tensor::full({}, c, x.dtype(), x.value().device()));
}

}  // namespace

Variable neg(const Variable& x) {
  return unary("neg", UnaryOp::neg, x);
}
Variable exp(const Variable& x) {
  return unary("exp", UnaryOp::exp, x);
}
Variable log(const Variable& x) {
  return unary("log", UnaryOp::log, x);
}
Variable sqrt(const Variable& x) {
  return unary("sqrt", UnaryOp::sqrt, x);
}
Variable square(const Variable& x) {
  return unary("square", UnaryOp::square, x);
}
Variable tanh(const Variable& x) {
  return unary("tanh", UnaryOp::tanh, x);
}
Variable sigmoid(const Variable& x) {
  return unary("sigmoid", UnaryOp::sigmoid, x);
}
Variable relu(const Variable& x) {
  return unary("relu", UnaryOp::relu, x);
}
Variable gelu(const Variable& x) {
  return unary("gelu", UnaryOp::gelu, x);
}

Variable add(const Variable& a, const Variable& b) {
  compute::check_operands("add", {{"a", a}, {"b", b}});
  return make_output("add", compute::binary(BinaryOp::add, a.value(), b.value(), "add"), {a, b},
                     [](const BackwardContext& ctx) {
                       ctx.accumulate(0, ctx.grad());
                       ctx.accumulate(1, ctx.grad());
                     });
}

Variable sub(const Variable& a, const Variable& b) {
  compute::check_operands("sub", {{"a", a}, {"b", b}});
  return make_output("sub", compute::binary(BinaryOp::sub, a.value(), b.value(), "sub"), {a, b},
                     [](const BackwardContext& ctx) {
                       ctx.accumulate(0, ctx.grad());
                       if (ctx.wants(1)) ctx.accumulate(1, compute::scale(ctx.grad(), -1));
                     });
}

Variable mul(const Variable& a, const Variable& b) {
  compute::check_operands("mul", {{"a", a}, {"b", b}});
  return make_output("mul", compute::binary(BinaryOp::mul, a.value(), b.value(), "mul"), {a, b},
                     [x = Saved(a.value()), y = Saved(b.value())](const BackwardContext& ctx) {
                       if (ctx.wants(0))
                         ctx.accumulate(0, compute::binary(BinaryOp::mul, ctx.grad(), y.get("mul"), "mul"));
                       if (ctx.wants(1))
                         ctx.accumulate(1, compute::binary(BinaryOp::mul, ctx.grad(), x.get("mul"), "mul"));
                     });
}

Variable div(const Variable& a, const Variable& b) {
  compute::check_operands("div", {{"a", a}, {"b", b}});
  const Tensor y = compute::binary(BinaryOp::div, a.value(), b.value(), "div");
  return make_output(
      "div", y, {a, b}, [denominator = Saved(b.value()), quotient = Saved(y)](const BackwardContext& ctx) {
        // d(a/b) = da / b - (a/b) db / b. dy times a/b first: where either is 0, that stays 0, however small b
        // is.
        const Tensor& b = denominator.get("div");
        if (ctx.wants(1)) {
          const Tensor product = compute::binary(BinaryOp::mul, ctx.grad(), quotient.get("div"), "div");
          ctx.accumulate(1, compute::scale(compute::binary(BinaryOp::div, product, b, "div"), -1));
        }
        if (ctx.wants(0)) ctx.accumulate(0, compute::binary(BinaryOp::div, ctx.grad(), b, "div"));
      });
}

Variable operator+(const Variable& x, double c) {
  return add(x, number("add", c, x));
}
Variable operator*(const Variable& x, double c) {
  return mul(x, number("mul", c, x));
}
Variable operator/(const Variable& x, double c) {
  return div(x, number("div", c, x));
}
Variable operator/(double c, const Variable& x) {
  return div(number("div", c, x), x);
}

}  // namespace wedge
