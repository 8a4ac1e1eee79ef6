// What the operation's twin cannot show: it takes differences of logarithms, and loses these digits itself.
#include "kernels/linear_cross_entropy.h"

#include <array>
#include <cmath>

#include "tests/support/catch.h"

using namespace wedge;

TEST_CASE("a nearly certain prediction keeps the digits of its loss and gradients",
          "[linear_cross_entropy]") {
  const std::array<float, 1> x = {1};
  const std::array<float, 3> weight = {20, 0, 1};  // the logits
  const std::array<std::int32_t, 1> targets = {0};
  float loss = 0;
  std::array<float, 1> dx{};
  std::array<float, 8> dweight{};
  cpu::linear_cross_entropy<float>(Exec{}, {.rows = 1,
                                            .V = 3,
                                            .D = 1,
                                            .x = x.data(),
                                            .weight = weight.data(),
                                            .targets = targets.data(),
                                            .loss = &loss,
                                            .dx = dx.data(),
                                            .dweight = dweight.data()});
  // 1 is the nearest float of 1 + others.
  const double others = std::exp(-20.0) + std::exp(-19.0), sum = 1 + others;
  CHECK(loss == Approx(std::log1p(others)).epsilon(1e-6));
  CHECK(dweight[0] == Approx(-others / sum).epsilon(1e-6));
  CHECK(dweight[1] == Approx(std::exp(-20.0) / sum).epsilon(1e-6));
  CHECK(dweight[2] == Approx(std::exp(-19.0) / sum).epsilon(1e-6));
  CHECK(dx[0] == Approx((std::exp(-19.0) - 20 * others) / sum).epsilon(1e-6));
}
