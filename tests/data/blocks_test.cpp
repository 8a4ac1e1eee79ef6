#include "data/blocks.h"

#include <numeric>

#include "tensor/check.h"
#include "tests/support/catch.h"

using namespace wedge;
using namespace wedge::data;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<std::int32_t> counting(std::size_t n) {
  std::vector<std::int32_t> tokens(n);
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

std::vector<std::int32_t> list(std::span<const std::int32_t> tokens) {
  return {tokens.begin(), tokens.end()};
}

}  // namespace

TEST_CASE("blocks: consecutive, shifted by one, the tail dropped", "[blocks]") {
  const Blocks blocks(counting(11), 3, "train");
  REQUIRE(blocks.count() == 2);
  CHECK(blocks.context_len() == 3);
  CHECK(list(blocks.input(0)) == std::vector<std::int32_t>{0, 1, 2});
  CHECK(list(blocks.target(0)) == std::vector<std::int32_t>{1, 2, 3});
  CHECK(list(blocks.input(1)) == std::vector<std::int32_t>{4, 5, 6});
  CHECK(list(blocks.target(1)) == std::vector<std::int32_t>{5, 6, 7});
}

TEST_CASE("blocks: how many fit", "[blocks]") {
  for (std::int64_t length : {1, 2, 7}) {
    for (std::size_t n = static_cast<std::size_t>(length) + 1; n < 30; ++n) {
      CHECK(Blocks(counting(n), length, "train").count() == static_cast<std::int64_t>(n) / (length + 1));
    }
  }
  CHECK(Blocks(counting(45854), 128, "train").count() == 355);
  CHECK(Blocks(counting(12884), 128, "validation").count() == 99);
}

TEST_CASE("blocks: no whole block is an error that says what was there", "[blocks]") {
  CHECK_THROWS_WITH(
      Blocks(counting(128), 128, "validation"),
      ContainsSubstring("no whole block: validation has 128 of the 129 tokens that a block takes"));
  CHECK_THROWS_WITH(Blocks({}, 1, "train"), ContainsSubstring("train has 0 of the 2 tokens"));
  CHECK_THROWS_AS(Blocks(counting(5), 0, "train"), Error);
  CHECK_THROWS_AS(Blocks(counting(5), -1, "train"), Error);
}

TEST_CASE("blocks: mean over targets leaves out first tokens and tail", "[blocks]") {
  const std::vector<double> values = {100, 1, 2, 100, 3, 4, 100, 100};
  CHECK(mean_over_targets(values, 2) == 2.5);
  CHECK_THROWS_AS(mean_over_targets(values, 8), Error);
}
