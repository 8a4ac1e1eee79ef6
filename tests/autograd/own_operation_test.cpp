// What operations that users write can do, and what is checked of them.
#include "autograd/ops.h"
#include "autograd/record.h"
#include "tests/autograd/values.h"
#include "tests/support/catch.h"

using namespace wedge;
using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;

namespace {

// f(x), of which nothing is kept: backward makes it again.
Variable checkpoint(const Variable& x, Variable (*f)(const Variable&)) {
  const Tensor y = [&] {
    const NoGradGuard no_grad;
    return f(x).value();
  }();
  return make_output("checkpoint", y, {x}, [f, in = x.value()](const BackwardContext& ctx) {
    const GradGuard again(true);
    const Variable x = parameter(in);
    f(x).backward(ctx.grad());
    ctx.accumulate(0, x.grad());
  });
}

}  // namespace

TEST_CASE("an operation's gradients are checked, with its name", "[tape]") {
  const Variable x = parameter(values({1, 2, 3, 4, 5, 6}));
  const Variable wide = reshape(x, {2, 3});
  const auto backward_of = [&](auto give) {
    std::string name = "named at run time";
    const Variable y = make_output(name.c_str(), wide.value(), {wide}, give);
    name = "gone";
    y.backward(Tensor::full({2, 3}, 1, DType::f64));
  };
  using Context = const BackwardContext&;
  CHECK_THROWS_WITH(backward_of([](Context c) { c.accumulate(0, c.grad().transpose(0, 1)); }),
                    ContainsSubstring("named at run time: the gradient of input 0 must be float64 [2, 3] on "
                                      "cpu, got float64 [3, 2] on cpu"));
  CHECK_THROWS_WITH(backward_of([](Context c) {
                      c.accumulate(0, values({1, 2, 3}));
                    }),
                    ContainsSubstring("got float64 [3]"));
  CHECK_THROWS_WITH(backward_of([](Context c) { c.accumulate(0, c.grad().to(DType::f32)); }),
                    ContainsSubstring("got float32"));
  CHECK_THROWS_WITH(backward_of([](Context c) { c.accumulate(0, {}); }),
                    ContainsSubstring("got an undefined"));
  CHECK_THROWS_WITH(backward_of([](Context c) { c.accumulate(1, c.grad()); }),
                    ContainsSubstring("named at run time: its gradient asks for input 1 of 1"));
  CHECK_THROWS_WITH(backward_of([](Context c) { c.sink(-1); }), ContainsSubstring("input -1 of 1"));
}

TEST_CASE("an operation may make its forward pass again in backward", "[tape]") {
  const auto f = [](const Variable& x) { return exp(sigmoid(x) * x); };
  const Variable a = parameter(values({0.5, -1, 2})), b = parameter(values({0.5, -1, 2}));
  sum(square(f(a))).backward();
  sum(square(checkpoint(b, f))).backward();
  CHECK(grad_of(a) == grad_of(b));
  CHECK(grad_enabled());
}
