// What a backward pass that fails leaves behind: nothing that a later one could trip over.
#include <cmath>
#include <limits>

#include "autograd/ops.h"
#include "tests/support/catch.h"

using namespace wedge;

namespace {

Variable failing(const Variable& x) {
  return make_output("failing", x.value().clone(), {x},
                     [](const BackwardContext&) { throw Error("failing: as planned"); });
}

}  // namespace

TEST_CASE("gradients of a failed backward do not meet those of the next", "[tape]") {
  const Variable w = parameter(Tensor::from(std::vector<double>{1, 2}, {2}));
  const Variable h = w * 1.0;
  const Variable loss = sum(failing(h)) + sum(h * 1.0);
  CHECK_THROWS_AS(loss.backward(), Error);
  sum(h * 2.0).backward();
  REQUIRE(w.grad().defined());
  CHECK(w.grad().to_vector() == std::vector<double>{2, 2});
}

TEST_CASE("a leaf that a failed closure was about to write has no gradient", "[tape]") {
  const Variable x = parameter(Tensor::from(std::vector<double>{1, 2}, {2}));
  const Variable y = sum(relu(x));
  x.set_value(Tensor::from(std::vector<double>{3, 4}, {2}));
  CHECK_THROWS_AS(y.backward(), Error);
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("edges: infinite maxima, empty products, division by a number, undefined variables", "[tape]") {
  const double inf = std::numeric_limits<double>::infinity();
  const Variable x = parameter(Tensor::from(std::vector<double>{1, inf, 2}, {3}));
  max(x, 0).backward();
  CHECK(x.grad().to_vector() == std::vector<double>{0, 1, 0});

  const Variable in = parameter(Tensor::zeros({2, 3}, DType::f64)),
                 nothing = parameter(Tensor::zeros({0, 3}, DType::f64));
  sum(linear(in, nothing)).backward();
  CHECK(in.grad().to_vector() == std::vector<double>(6, 0.0));

  const Variable z = parameter(Tensor::zeros({0, 4, 3}, DType::f64)),
                 weight = parameter(Tensor::zeros({2, 3}, DType::f64));
  sum(plucker_linear(z, weight, {}, {1})).backward();
  CHECK(weight.grad().to_vector() == std::vector<double>(6, 0.0));

  CHECK((Variable(Tensor::full({1}, 49, DType::f64)) / 49.0).item() == 1.0);
  CHECK_NOTHROW(Variable().zero_grad());
}

TEST_CASE("exp of -inf is 0 and sqrt is std::sqrt, wherever the element stands", "[tape]") {
  for (const std::int64_t n : {1, 7, 8, 33}) {
    const auto inf = std::numeric_limits<float>::infinity();
    for (const double e : exp(Tensor::full({n}, -inf)).value().to_vector()) CHECK(e == 0.0);
    for (const double r : sqrt(Tensor::full({n}, inf)).value().to_vector()) CHECK(r == inf);
    for (const double r : sqrt(Tensor::full({n}, 1e-40)).value().to_vector())
      CHECK(r == Approx(std::sqrt(1e-40)).epsilon(1e-4));
    std::vector<float> masked(static_cast<std::size_t>(n), -inf);
    masked[0] = 0;
    const auto p = softmax(Tensor::from(masked, {n})).value().to_vector();
    CHECK(p[0] == 1.0);
    for (std::size_t i = 1; i < p.size(); ++i) CHECK(p[i] == 0.0);
  }
}

TEST_CASE("a lag beyond every sequence is skipped, however large", "[tape]") {
  const auto gradient = [](std::int64_t lag) {
    const Variable z = parameter(Tensor::from(std::vector<double>{1, 2, 3, 4, 5, 7, 1, 1, 2}, {1, 3, 3}));
    sum(square(plucker_linear(z, Tensor::full({2, 3}, 0.5, DType::f64), {}, {1, lag}))).backward();
    return z.grad().to_vector();
  };
  CHECK(gradient(std::numeric_limits<std::int64_t>::max()) == gradient(100));
}

TEST_CASE("copies between overlapping views", "[tape]") {
  Tensor t = Tensor::from(std::vector<float>{1, 2, 3, 4}, {2, 2});
  t.copy_from(t.transpose(0, 1));
  CHECK(t.to_vector() == std::vector<double>{1, 3, 2, 4});
}
