// What wedge inspect takes of numbers and matrices.
#include "apps/statistics.h"

#include <cmath>

#include "tensor/rng.h"
#include "tensor/tensor.h"
#include "tests/apps/singular_values.h"
#include "tests/support/catch.h"

using namespace wedge;
using namespace wedge::app;
using namespace wedge::test;

TEST_CASE("inspection: effective rank and principal angles of matrices that are known", "[apps][inspect]") {
  CHECK(effective_rank(std::vector<double>{1, 0, 0, 0, 1, 0, 0, 0, 1}, 3) == Approx(3));
  CHECK(effective_rank(std::vector<double>{1, 2, 2, 4, 3, 6, -1, -2}, 2) == Approx(1));
  CHECK(effective_rank(std::vector<double>{0, 0, 0, 0}, 2) == 0);
  CHECK(effective_rank(std::vector<double>{3, 0, 0, 1}, 2) ==
        Approx(std::exp(-0.75 * std::log(0.75) - 0.25 * std::log(0.25))));
  CHECK(effective_rank(std::vector<double>{3, 0, 0, 0, 1, 0}, 3) ==
        Approx(std::exp(-0.75 * std::log(0.75) - 0.25 * std::log(0.25))));  // wider than tall
  const auto angles = principal_angles({{1, 0, 0}, {0, 1, 0}}, {{1, 0, 0}, {0, 1, 1}});
  REQUIRE(angles.size() == 2);
  CHECK(angles[0] == Approx(0).margin(1e-6));
  CHECK(angles[1] == Approx(45));
  CHECK(principal_angles({{2, 0, 0}, {4, 0, 0}}, {{0, 3, 0}}) ==
        std::vector<double>{90});  // one of a plane's two is gone
  const Distribution d = distribution_of({4, 1, 3, 2});
  CHECK(d.mean == 2.5);
  CHECK(d.deviation == Approx(std::sqrt(1.25)));
  CHECK(d.quantiles[3] == 2.5);
  CHECK(d.quantiles[2] == 1.75);
  CHECK(distribution_of({}).count == 0);
}

TEST_CASE("inspection: effective rank of matrices, tall and wide, and with columns that repeat",
          "[apps][inspect]") {
  const auto [tall, wide] =
      GENERATE(std::pair{1, 1}, std::pair{40, 33}, std::pair{70, 66}, std::pair{90, 97});
  const std::int64_t independent = GENERATE(1000, 20);  // columns; the others repeat them
  CAPTURE(tall, wide, independent);
  Rng rng(static_cast<std::uint64_t>(tall));
  const std::vector<double> values = Tensor::normal({tall, wide}, rng, 0, 1, DType::f64).to_vector();
  Rows rows(static_cast<std::size_t>(tall));
  std::vector<double> flat;
  for (std::int64_t i = 0; i < tall; ++i)
    for (std::int64_t j = 0; j < wide; ++j)
      rows[static_cast<std::size_t>(i)].push_back(
          flat.emplace_back(values[static_cast<std::size_t>(i * wide + j % independent)]));
  CHECK(effective_rank(flat, wide) == Approx(rank_of(rows)).epsilon(1e-6));
}
