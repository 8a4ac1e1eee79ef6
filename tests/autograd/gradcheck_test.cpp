#include "autograd/gradcheck.h"

#include <limits>

#include "autograd/ops.h"
#include "autograd/record.h"
#include "tensor/rng.h"
#include "tests/support/catch.h"

using namespace wedge;
using Catch::Matchers::ContainsSubstring;

namespace {

Variable leaf(Shape shape, std::uint64_t seed = 1) {
  Rng rng(seed);
  return parameter(Tensor::uniform(std::move(shape), rng, 0.5, 2, DType::f64));
}

// x² with slope 2x · factor, but `offset` more for the last element.
Variable wrong_square(const Variable& x, double factor, double offset = 0) {
  const Variable y = square(x.detach());
  return make_output("wrong_square", y.value(), {x},
                     [x = x.value(), factor, offset](const BackwardContext& ctx) {
                       const Tensor dx = (Variable(x) * Variable(ctx.grad()) * (2 * factor)).value();
                       dx.data<double>()[dx.numel() - 1] += offset;
                       ctx.accumulate(0, dx);
                     });
}

}  // namespace

TEST_CASE("gradcheck accepts right gradients", "[gradcheck]") {
  const auto f = [](const std::vector<Variable>& in) { return exp(in[0] * in[1]) / in[0]; };
  const GradcheckResult result = gradcheck(f, {leaf({2, 3}), leaf({3}, 2)});
  CHECK(result.ok);
  CHECK(result.worst < 1);
  CHECK(result.worst > 0);
}

TEST_CASE("gradcheck rejects wrong ones and says where", "[gradcheck]") {
  const auto scaled = [](double factor) {
    return gradcheck([factor](const auto& in) { return wrong_square(in[0], factor); }, {leaf({2, 2})});
  };
  CHECK(scaled(1).ok);
  CHECK(scaled(1 + 1e-7).ok);
  CHECK_FALSE(scaled(1 + 1e-4).ok);
  CHECK_FALSE(scaled(-1).ok);
  CHECK_FALSE(scaled(0).ok);
  CHECK_FALSE(scaled(std::numeric_limits<double>::quiet_NaN()).ok);

  const auto one_element = [](const std::vector<Variable>& in) {
    return in[0] * wrong_square(in[1], 1, 1e-3);
  };
  const GradcheckResult result = gradcheck(one_element, {leaf({4}), leaf({4}, 2)});
  CHECK_FALSE(result.ok);
  CHECK_THAT(result.message, ContainsSubstring("input 1, element 3: analytic"));
}

TEST_CASE("gradcheck notices a gradient that never arrives", "[gradcheck]") {
  const auto cut = [](const std::vector<Variable>& in) { return in[0] * in[1].detach(); };
  const GradcheckResult result = gradcheck(cut, {leaf({3}), leaf({3}, 2)});
  CHECK_FALSE(result.ok);
  CHECK_THAT(result.message, ContainsSubstring("input 1"));
}

TEST_CASE("gradcheck weighs elements differently", "[gradcheck]") {
  // Summed with equal weights, a softmax is constant and any gradient that sums to zero would pass.
  const auto wrong = [](const std::vector<Variable>& in) {
    const Variable y = softmax(in[0].detach());
    return make_output("wrong_softmax", y.value(), {in[0]},
                       [](const BackwardContext& ctx) { ctx.accumulate(0, Tensor::zeros({3}, DType::f64)); });
  };
  CHECK_FALSE(gradcheck(wrong, {leaf({3})}).ok);
  CHECK(gradcheck([](const auto& in) { return softmax(in[0]); }, {leaf({3})}).ok);
}

TEST_CASE("gradcheck leaves constants and the inputs' values alone", "[gradcheck]") {
  const Variable x = leaf({3}), c = leaf({3}, 2).detach();
  const std::vector<double> before = x.value().to_vector();
  CHECK(gradcheck([](const auto& in) { return in[0] * in[1]; }, {x, c}).ok);
  CHECK(x.value().to_vector() == before);
  int calls = 0;
  const auto fails = [&](const std::vector<Variable>& in) {
    if (++calls == 2) throw Error("on purpose");
    return square(in[0]);
  };
  CHECK_THROWS_WITH(gradcheck(fails, {x}), ContainsSubstring("on purpose"));
  CHECK(x.value().to_vector() == before);
}

TEST_CASE("gradcheck follows its options", "[gradcheck]") {
  const auto f = [](const std::vector<Variable>& in) { return wrong_square(in[0], 1.01); };
  CHECK_FALSE(gradcheck(f, {leaf({3})}).ok);
  CHECK(gradcheck(f, {leaf({3})}, {.relative = 0.1}).ok);
  CHECK(gradcheck(f, {leaf({3})}, {.absolute = 1}).ok);
}

TEST_CASE("gradcheck refuses what it cannot check", "[gradcheck]") {
  const auto f = [](const std::vector<Variable>& in) { return square(in[0]); };
  CHECK_THROWS_WITH(gradcheck(f, {parameter(Tensor::zeros({3}))}),
                    ContainsSubstring("expected float64 leaves, got float32"));
  CHECK_THROWS_WITH(gradcheck(f, {leaf({3}) * 2.0}), ContainsSubstring("the result of an operation"));
}

TEST_CASE("a parameter made of a view is a dense copy of it", "[gradcheck]") {
  const Tensor whole = Tensor::from(std::vector<double>{1, 2, 3, 4, 5, 6}, {2, 3});
  const Variable p = parameter(whole.transpose(0, 1));
  CHECK(p.value().is_contiguous());
  CHECK(p.value().to_vector() == std::vector<double>{1, 4, 2, 5, 3, 6});
  CHECK(gradcheck([](const std::vector<Variable>& in) { return square(in[0]); }, {p}).ok);
  CHECK(whole.to_vector() == std::vector<double>{1, 2, 3, 4, 5, 6});
}
