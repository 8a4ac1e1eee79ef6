#include "models/optimizer.h"

#include <cmath>
#include <limits>

#include "autograd/ops.h"
#include "models/schedule.h"
#include "tests/support/catch.h"

using namespace wedge;

namespace {

Variable scalar(double x) {
  return parameter(Tensor::full({1}, x, DType::f64));
}

void set_gradient(const Variable& p, double g) {
  p.zero_grad();
  sum(p * g).backward();
}

}  // namespace

TEST_CASE("AdamW follows its formula", "[models][optimizer]") {
  const double lr = 0.1, wd = 0.2, b1 = 0.9, b2 = 0.999, eps = 1e-8;
  const Variable p = scalar(2);
  AdamW optimizer({{"p", p}}, {.weight_decay = wd, .grad_clip = 0});
  double x = 2, m = 0, v = 0;
  const double gradients[] = {0.5, -3, 0.25};
  for (int t = 1; t <= 3; ++t) {
    const double g = gradients[t - 1];
    set_gradient(p, g);
    optimizer.step(lr);
    CHECK(optimizer.grad_norm() == Approx(std::abs(g)));
    x -= lr * wd * x;
    m = b1 * m + (1 - b1) * g;
    v = b2 * v + (1 - b2) * g * g;
    x -= lr / (1 - std::pow(b1, t)) * m / (std::sqrt(v) / std::sqrt(1 - std::pow(b2, t)) + eps);
    CHECK(p.item() == Approx(x).epsilon(1e-12));
  }
}

TEST_CASE("an optimizer refuses a parameter that comes twice, and tensors that are none",
          "[models][optimizer]") {
  const Variable p = scalar(1);
  using Catch::Matchers::ContainsSubstring;
  CHECK_THROWS_WITH(AdamW({{"a", p}, {"b", p}}, {}), ContainsSubstring("a and b are one"));
  AdamW optimizer({{"a", p}}, {});
  CHECK_THROWS_WITH(optimizer.step(Tensor()), ContainsSubstring("expected a learning rate"));
  CHECK_THROWS_WITH(optimizer.restore(1, {Tensor()}, {Tensor()}),
                    ContainsSubstring("moments of a are undefined"));
}

TEST_CASE("gradients are clipped by their global norm", "[models][optimizer]") {
  const auto first_moment = [](double clip) {
    const Variable a = scalar(1), b = scalar(1);
    AdamW optimizer({{"a", a}, {"b", b}}, {.weight_decay = 0, .grad_clip = clip});
    set_gradient(a, 3);
    set_gradient(b, 4);
    optimizer.step(0.1);
    CHECK(optimizer.grad_norm() == Approx(5));
    return optimizer.first_moments()[0].item();
  };
  CHECK(first_moment(0) == Approx(0.1 * 3));
  CHECK(first_moment(10) == Approx(0.1 * 3));
  CHECK(first_moment(1) == Approx(0.1 * 3 / (5 + 1e-6)));
}

TEST_CASE("a parameter without gradient decays, and a gradient that is not finite changes nothing",
          "[models][optimizer]") {
  const Variable used = scalar(1), idle = scalar(1);
  AdamW optimizer({{"used", used}, {"idle", idle}}, {.weight_decay = 0.5});
  set_gradient(used, 1);
  optimizer.step(0.1);
  CHECK(idle.item() == Approx(1 - 0.1 * 0.5));
  const double before = used.item();
  set_gradient(used, std::numeric_limits<double>::infinity());
  optimizer.step(0.1);
  CHECK_FALSE(std::isfinite(optimizer.grad_norm()));
  CHECK(used.item() == before);
  CHECK(optimizer.steps() == 1);
}

TEST_CASE("an optimizer goes on from a number of steps that it is given", "[models][optimizer]") {
  const auto second_step = [](bool resumed) {
    const Variable p = scalar(2);
    AdamW first({{"p", p}}, {}), again({{"p", p}}, {});
    set_gradient(p, 0.5);
    first.step(0.1);
    AdamW& then = resumed ? again : first;
    if (resumed) then.restore(first.steps(), first.first_moments(), first.second_moments());
    set_gradient(p, -0.25);
    then.step(Tensor::full({1}, 0.1, DType::f64));
    CHECK(then.steps() == 2);
    return p.item();
  };
  CHECK(second_step(true) == second_step(false));
  const Variable p = scalar(1);
  CHECK_THROWS_AS(AdamW({{"p", p}}, {}).step(Tensor::full({1}, 0.1)), Error);
}

TEST_CASE("an optimizer step makes graphs of the old values stale", "[models][optimizer]") {
  const Variable p = scalar(1);
  AdamW optimizer({{"p", p}}, {});
  const Variable loss = sum(square(p));
  set_gradient(p, 1);
  optimizer.step(0.1);
  CHECK_THROWS_AS(loss.backward(), Error);
}

TEST_CASE("cosine annealing with warm-up", "[models][optimizer]") {
  CHECK(learning_rate_at(0, 10, 1.0) == 1.0);
  CHECK(learning_rate_at(5, 10, 1.0) == Approx(0.5));
  CHECK(learning_rate_at(9, 10, 2.0) == Approx(1 + std::cos(0.9 * std::acos(-1.0))));
  CHECK(learning_rate_at(0, 10, 1.0, 4) == Approx(0.25));
  CHECK(learning_rate_at(5, 5, 1.0, 5) == 0);
  CHECK(learning_rate_at(0, 0, 1.0) == 0);
  CHECK(learning_rate_at(3, 10, 1.0, 4) == Approx(1.0));
  CHECK(learning_rate_at(4, 10, 1.0, 4) == Approx(1.0));
  CHECK(learning_rate_at(7, 10, 1.0, 4) == Approx(0.5));
}

TEST_CASE("a restored optimizer goes on with the same bits", "[models][optimizer]") {
  const auto gradient = [](int t) { return std::sin(3.0 * t) + 0.1 * t; };
  const Variable p = scalar(2), q = scalar(2);
  AdamW whole({{"p", p}}, {}), first({{"q", q}}, {});
  for (int t = 0; t < 5; ++t) {
    set_gradient(p, gradient(t));
    whole.step(0.1);
    set_gradient(q, gradient(t));
    first.step(0.1);
  }
  const Variable r = scalar(q.item());
  AdamW second({{"r", r}}, {});
  second.restore(first.steps(), first.first_moments(), first.second_moments());
  CHECK(second.steps() == 5);
  for (int t = 5; t < 8; ++t) {
    set_gradient(p, gradient(t));
    whole.step(0.1);
    set_gradient(r, gradient(t));
    second.step(0.1);
  }
  CHECK(p.item() == r.item());
  CHECK(q.item() != r.item());  // the moments were copied, not shared

  CHECK_THROWS_WITH(second.restore(-1, first.first_moments(), first.second_moments()),
                    Catch::Matchers::ContainsSubstring("a number of steps, got -1"));
  CHECK_THROWS_WITH(second.restore(1, {}, first.second_moments()),
                    Catch::Matchers::ContainsSubstring("expected 1 moments"));
  CHECK_THROWS_WITH(second.restore(1, first.first_moments(), {Tensor::zeros({2}, DType::f64)}),
                    Catch::Matchers::ContainsSubstring("moments of r"));
  CHECK(second.steps() == 8);
}
