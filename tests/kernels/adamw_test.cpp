// adamw_step and squared_norm against the formulas of kernels/adamw.h, one element at a time.
#include "kernels/adamw.h"

#include <cmath>
#include <limits>
#include <vector>

#include "tensor/rng.h"
#include "tests/support/catch.h"
#include "tests/support/threads.h"

using namespace wedge;

namespace {

// Below, at and above the pieces that the kernel cuts parameters into.
constexpr std::int64_t kSizes[] = {1, 7, 4095, 4096, 4097, 20000, 0, 33};

template <class T>
struct Parameters {
  std::vector<std::vector<T>> p, g, m, v;
  bool last_without_gradient;

  explicit Parameters(bool last_without_gradient) : last_without_gradient(last_without_gradient) {
    Rng rng(1);
    const auto draw = [&](std::int64_t n, double low, double high) {
      std::vector<T> values(static_cast<std::size_t>(n));
      for (T& x : values) x = static_cast<T>(low + (high - low) * rng.uniform());
      return values;
    };
    for (const std::int64_t n : kSizes) {
      p.push_back(draw(n, -1, 1));
      g.push_back(draw(n, -0.1, 0.1));
      m.push_back(draw(n, -0.1, 0.1));
      v.push_back(draw(n, 0, 0.01));
    }
  }
  std::vector<AdamWTensor<T>> tensors() {
    std::vector<AdamWTensor<T>> out;
    for (std::size_t i = 0; i < p.size(); ++i)
      out.push_back(
          {static_cast<std::int64_t>(p[i].size()), p[i].data(), g[i].data(), m[i].data(), v[i].data()});
    if (last_without_gradient) out.back().g = nullptr;
    return out;
  }
  double gradient(std::size_t i, std::size_t k) const {
    return last_without_gradient && i + 1 == p.size() ? 0.0 : static_cast<double>(g[i][k]);
  }
};

}  // namespace

TEMPLATE_TEST_CASE("a step of AdamW follows its formula", "[adamw]", float, double) {
  const double clip = GENERATE(0.0, 0.5, 1e3);  // off, at work, and too large to matter
  for (const bool missing : {false, true}) {
    Parameters<TestType> now(missing);
    const Parameters<TestType> old(missing);
    const double lr = 1e-2, b1 = 0.9, b2 = 0.999, eps = 1e-8, wd = 0.1, squared = 4;
    const AdamWScalars scalars{lr, 1 - b1 * b1, std::sqrt(1 - b2 * b2)};
    const auto tensors = now.tensors();
    adamw_step<TestType>(Exec{}, {tensors, b1, b2, eps, wd, clip, &scalars, &squared});

    const double clipped = clip == 0.5 ? 0.5 / (2 + 1e-6) : 1;
    double worst = 0;
    for (std::size_t i = 0; i < old.p.size(); ++i)
      for (std::size_t k = 0; k < old.p[i].size(); ++k) {
        const double g = clipped * old.gradient(i, k);
        const double m = b1 * old.m[i][k] + (1 - b1) * g, v = b2 * old.v[i][k] + (1 - b2) * g * g;
        const double denominator = std::sqrt(v) / scalars.sqrt_bias_correction2 + eps;
        const double p = old.p[i][k] * (1 - lr * wd) - lr / scalars.bias_correction1 * m / denominator;
        worst = std::max({worst, std::abs(now.m[i][k] - m), std::abs(now.v[i][k] - v)});
        worst = std::max(worst, std::abs(now.p[i][k] - p) / (1 + std::abs(p)));
      }
    CHECK(worst < 4 * std::numeric_limits<TestType>::epsilon());
    CHECK(now.g == old.g);
  }
}

TEST_CASE("a step whose norm is not finite changes nothing", "[adamw]") {
  for (const double squared : {HUGE_VAL, std::nan("")}) {
    Parameters<float> now(false);
    const Parameters<float> old(false);
    const AdamWScalars scalars{1e-2, 0.1, 0.1};
    const auto tensors = now.tensors();
    adamw_step<float>(Exec{}, {tensors, 0.9, 0.999, 1e-8, 0.1, 1, &scalars, &squared});
    CHECK(now.p == old.p);
    CHECK(now.m == old.m);
    CHECK(now.v == old.v);
  }
}

TEMPLATE_TEST_CASE("the squared norm is summed in float64 over all tensors", "[adamw]", float, double) {
  for (const bool missing : {false, true}) {
    Parameters<TestType> parameters(missing);
    double want = 0, got = -1;
    for (std::size_t i = 0; i < parameters.p.size(); ++i)
      for (std::size_t k = 0; k < parameters.p[i].size(); ++k) want += std::pow(parameters.gradient(i, k), 2);
    const auto tensors = parameters.tensors();
    squared_norm<TestType>(Exec{}, {tensors, &got});
    CHECK(got == Approx(want).epsilon(1e-13));
  }
  double nothing = -1;
  squared_norm<TestType>(Exec{}, {{}, &nothing});
  CHECK(nothing == 0);
}

TEST_CASE("a norm beyond float32's squares is still finite", "[adamw]") {
  std::vector<float> g(10, 1e30f);
  const std::vector<AdamWTensor<float>> tensors = {{10, nullptr, g.data(), nullptr, nullptr}};
  double got = 0;
  squared_norm<float>(Exec{}, {tensors, &got});
  CHECK(got == Approx(1e61).epsilon(1e-6));
}

TEST_CASE("the norm prepares its step, and counts it where it is finite", "[adamw]") {
  for (const float gradient : {3.0f, HUGE_VALF, std::nanf("")}) {
    CAPTURE(gradient);
    std::vector<float> g = {gradient, 4};
    const std::vector<AdamWTensor<float>> tensors = {{2, nullptr, g.data(), nullptr, nullptr}};
    const double lr = 0.25;
    double squares = -1, norm = -1;
    std::int64_t steps = 2;
    AdamWScalars scalars{};
    const AdamWPrepare prepare{.beta1 = 0.5,
                               .beta2 = 0.75,
                               .learning_rate = &lr,
                               .steps = &steps,
                               .norm = &norm,
                               .scalars = &scalars};
    squared_norm<float>(Exec{}, {tensors, &squares, &prepare});
    CHECK(scalars.learning_rate == 0.25);
    CHECK(scalars.bias_correction1 == 1 - 0.125);
    CHECK(scalars.sqrt_bias_correction2 == std::sqrt(1 - 0.75 * 0.75 * 0.75));
    CHECK(steps == (std::isfinite(gradient) ? 3 : 2));
    if (std::isfinite(gradient)) CHECK(norm == 5);
    CHECK(std::isfinite(norm) == std::isfinite(gradient));
  }
}

TEST_CASE("neither step nor norm depends on the number of threads", "[adamw]") {
  std::vector<Parameters<float>> after;
  std::vector<double> norms;
  for (const int count : {1, 2, 3, 5}) {
    const Threads threads(count);
    Parameters<float>& parameters = after.emplace_back(false);
    const AdamWScalars scalars{1e-3, 0.1, std::sqrt(0.001)};
    const auto tensors = parameters.tensors();
    squared_norm<float>(Exec{}, {tensors, &norms.emplace_back()});
    adamw_step<float>(Exec{}, {tensors, 0.9, 0.999, 1e-8, 0.01, 1.0, &scalars, &norms.back()});
    CHECK(norms.back() == norms.front());
    CHECK(after.back().p == after.front().p);
    CHECK(after.back().v == after.front().v);
  }
}
