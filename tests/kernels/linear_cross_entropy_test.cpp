// What the operation's twin cannot show: it takes differences of logarithms, and loses digits itself; and it
// has no bfloat16.
#include "kernels/linear_cross_entropy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "kernels/cpu/amx_tile.h"
#include "kernels/matmul.h"
#include "tensor/rng.h"
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

namespace {

std::vector<float> drawn(std::int64_t n, double scale, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& x : values) x = static_cast<float>(scale * (rng.uniform() * 2 - 1));
  return values;
}
float rounded(double x) {
  return static_cast<float>(BFloat16(static_cast<float>(x)));
}
std::vector<float> rounded(std::vector<float> values) {
  for (float& x : values) x = rounded(x);
  return values;
}
// |got - expected| / |expected|
double error_of(const std::vector<float>& got, const std::vector<double>& expected) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += std::pow(got[i] - expected[i], 2);
    size += std::pow(expected[i], 2);
  }
  return std::sqrt(error / size);
}

// The head with products of bfloat16 factors on the CPU, beside its definition with every rounding that it
// has: factors, logits, E = exp(logits - max) with minus the others' sum at the target, and x times E's scale.
// What is left is the order of sums, which now and then puts a logit on the other side of a rounding's middle.
void check_rounded_head(std::int64_t rows, std::int64_t V, std::int64_t D) {
  CAPTURE(rows, V, D);
  const Exec exec{.bf16_products_on_cpu = true};
  REQUIRE(cpu::rounds_logits(exec, std::min(rows, cpu::kLogitRows), V, D));
  const std::vector<float> x = drawn(rows * D, 1, 1), weight = drawn(V * D, 1, 2);
  std::vector<std::int32_t> targets;
  for (std::int64_t t = 0; t < rows; ++t) targets.push_back(static_cast<std::int32_t>(t * 7919 % V));
  float loss = 0;
  std::vector<float> dx(x.size()), dweight(static_cast<std::size_t>(padded_classes(V) * D), 7.f);
  const LinearCrossEntropy<float> args{rows,           V,     D,         x.data(),      weight.data(),
                                       targets.data(), &loss, dx.data(), dweight.data()};
  cpu::linear_cross_entropy<float>(exec, args);

  const std::vector<float> rx = rounded(x), rw = rounded(weight);
  std::vector<float> G(static_cast<std::size_t>(rows * V)), scaled = x;
  cpu::gemm<float>(
      Exec{},
      {.M = rows, .N = V, .K = D, .A = {rx.data(), D}, .B = transposed(rw.data(), D), .C = {G.data(), V}});
  double total = 0;
  std::vector<double> scales;
  for (std::int64_t t = 0; t < rows; ++t) {
    float* const row = G.data() + t * V;
    const std::int32_t target = targets[static_cast<std::size_t>(t)];
    for (std::int64_t v = 0; v < V; ++v) row[v] = rounded(row[v]);
    const float max = *std::max_element(row, row + V), of_target = row[target];
    double sum = 0;
    for (std::int64_t v = 0; v < V; ++v) {
      const double e = std::exp(static_cast<double>(row[v]) - max);
      sum += e;
      row[v] = rounded(e);
    }
    row[target] = rounded(std::exp(static_cast<double>(of_target) - max) - sum);
    total += std::log(sum) + max - of_target;
    scales.push_back(1 / (sum * static_cast<double>(rows)));
    for (std::int64_t d = 0; d < D; ++d) {
      float& s = scaled[static_cast<std::size_t>(t * D + d)];
      s = rounded(static_cast<float>(scales.back()) * s);
    }
  }
  CHECK(loss == Approx(total / static_cast<double>(rows)).epsilon(1e-6));
  std::vector<double> of_x(x.size()), of_weight(dweight.size());
  for (std::int64_t t = 0; t < rows; ++t)
    for (std::int64_t v = 0; v < V; ++v)
      for (std::int64_t d = 0; d < D; ++d) {
        const double g = G[static_cast<std::size_t>(t * V + v)];
        of_x[static_cast<std::size_t>(t * D + d)] +=
            scales[static_cast<std::size_t>(t)] * g * rw[static_cast<std::size_t>(v * D + d)];
        of_weight[static_cast<std::size_t>(v * D + d)] += g * scaled[static_cast<std::size_t>(t * D + d)];
      }
  CHECK(error_of(dx, of_x) < 2e-4);
  CHECK(error_of(dweight, of_weight) < 2e-4);

  // Where only the loss is wanted, logits are not rounded.
  float alone = 0;
  LinearCrossEntropy<float> without = args;
  without.loss = &alone;
  without.dx = without.dweight = nullptr;
  cpu::linear_cross_entropy<float>(exec, without);
  CHECK(alone == Approx(loss).epsilon(1e-3));
  CHECK(alone != loss);
}

}  // namespace

TEST_CASE("the head's logits and their gradient in bfloat16", "[linear_cross_entropy]") {
  if (!cpu::has_amx()) {
    WARN("skipped: no matrix unit");
    return;
  }
  check_rounded_head(70, 210, 65);
  if (std::getenv("WEDGE_TEST_AMX") != nullptr) return;  // the emulator takes long
  check_rounded_head(1100, 16400, 32);                   // two chunks, the first past the caches
}
