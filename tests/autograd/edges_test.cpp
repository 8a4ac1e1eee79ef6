// Operations where numbers or sizes come to an end: infinities, denormals, nothing at all.
#include <cmath>
#include <limits>

#include "autograd/ops.h"
#include "tensor/rng.h"
#include "tests/support/catch.h"

using namespace wedge;

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

namespace {

// The largest relative error of f over x, each at every place of a run and of its end.
template <class T>
double worst_error(Variable (*f)(const Variable&), long double (*exact)(long double),
                   const std::vector<T>& xs) {
  double worst = 0;
  for (const T x : xs)
    for (const std::int64_t n : {1, 16, 17, 67}) {
      const auto ys =
          f(Tensor::from(std::vector<T>(static_cast<std::size_t>(n), x), {n})).value().to_vector();
      const double y = static_cast<double>(static_cast<T>(exact(static_cast<long double>(x))));
      for (const double got : ys) {
        CHECK(got == ys[0]);
        const double unit = std::max(std::abs(y), static_cast<double>(std::numeric_limits<T>::min()));
        if (got != y) worst = std::max(worst, std::abs(got - y) / unit);
      }
    }
  return worst;
}

}  // namespace

TEST_CASE("exp, log and sigmoid are right to the ends of a type, wherever the element stands", "[tape]") {
  const auto logistic = [](long double x) { return 1 / (1 + std::exp(-x)); };
  const auto float_eps = static_cast<double>(std::numeric_limits<float>::epsilon());
  const std::vector<float> exponents = {-200, -104, -100, -88, -87.3f, -8.9f,  -1e-3f,
                                        0,    1,    30,   88,  88.5f,  88.72f, 89};
  CHECK(worst_error<float>(exp, std::exp, exponents) <= float_eps);
  CHECK(worst_error<float>(sigmoid, logistic, exponents) <= 2 * float_eps);
  CHECK(worst_error<float>(log, std::log, {1e-45f, 1e-39f, 1e-38f, 0.3f, 1, 7, 3e38f, HUGE_VALF, 0}) <=
        2 * float_eps);
  const double eps = std::numeric_limits<double>::epsilon();
  const std::vector<double> wide = {-750, -745, -709, -708, -1, 0, 700, 709.5, 709.7, 710};
  CHECK(worst_error<double>(exp, std::exp, wide) <= eps);
  CHECK(worst_error<double>(sigmoid, logistic, {-740, -709, -30, -1, 0, 30}) <= 2 * eps);
  CHECK(worst_error<double>(log, std::log, {1e-320, 1e-310, 1e-300, 2, HUGE_VAL, 0}) <= 2 * eps);
}

TEST_CASE("the slope of gelu is 0 or 1 far out", "[tape]") {
  const Variable x = parameter(Tensor::from({-1e38f, -1e30f, -200.f, 200.f, 1e38f}, {5}));
  sum(gelu(x)).backward();
  CHECK(x.grad().to_vector() == std::vector<double>{0, 0, 0, 1, 1});
}

TEST_CASE("with two coordinates p̂ is ±1, and nothing of its gradient is left", "[tape]") {
  Rng rng(3);
  for (const double noise : {1.0, 1e-3}) {  // of positions that are nearly parallel
    const Tensor along = Tensor::from({3.f, -2.f}, {2}), apart = Tensor::normal({2, 20, 2}, rng, 0, noise);
    const Variable z = parameter((Variable(along) + Variable(apart)).value());
    sum(square(plucker_linear(z, Tensor::normal({4, 1}, rng, 0, 1), {}, {1, 2, 5}))).backward();
    CHECK(z.grad().to_vector() == std::vector<double>(80, 0.0));
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

TEST_CASE("attention's gradient knows the weights that forward used, however large the scores", "[tape]") {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const double score : {1e2, 1e4, 1e8, 1e16}) {
      CAPTURE(score);
      const double s = std::sqrt(score);  // of every query and key; each key has the same weight
      Tensor qkv = Tensor::from(std::vector<double>{s, s, 1, s, s, 2, s, s, 3}, {1, 3, 3}).to(dtype);
      const Variable x = parameter(qkv);
      causal_attention(x, 1).backward(Tensor::from(std::vector<double>{0, 0, 1}, {1, 3, 1}).to(dtype));
      for (const std::size_t value : {2, 5, 8})
        CHECK(x.grad().to_vector()[value] == Approx(1.0 / 3).epsilon(1e-6));
    }
}

TEST_CASE("the gate keeps what is small beside what it shuts out", "[tape]") {
  const auto of = [](double x) { return Variable(Tensor::full({1, 1}, x)); };
  const Variable weight(Tensor::zeros({1, 2}));
  const auto blend = [&](double h, double g, double bias) {
    return gate_blend(of(h), of(g), weight, Variable(Tensor::full({1}, bias))).item();
  };
  CHECK(blend(0.123, 1e6, 40) == Approx(0.123).epsilon(1e-6));  // alpha is 1
  CHECK(blend(1e6, 0.123, -40) == Approx(0.123).epsilon(1e-6));
}

TEST_CASE("where a quotient or its gradient is 0, a small divisor's gradient is 0", "[tape]") {
  for (const auto& [a, dy] : {std::pair{0.0, 1e10}, {1.0, 0.0}}) {
    const Variable b = parameter(Tensor::full({1}, 1e-30));
    (Variable(Tensor::full({1}, a)) / b).backward(Tensor::full({1}, dy));
    CHECK(b.grad().item() == 0);
  }
}

TEST_CASE("a mask that is not drawn does not watch its counter", "[tape]") {
  const Variable x = parameter(Tensor::full({2, 3}, 1)), w = parameter(Tensor::full({3}, 1));
  const Dropout off{.rate = 0, .counter = Tensor::zeros({3}, DType::i64)};
  for (const Variable& y : {residual_layernorm(x, x, off, w, w), layernorm_dropout(x, w, w, off)}) {
    off.counter.fill(4);
    CHECK_NOTHROW(sum(y).backward());
  }
}
