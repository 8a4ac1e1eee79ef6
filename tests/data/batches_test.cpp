#include "data/batches.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "tensor/check.h"
#include "tests/support/catch.h"

using namespace wedge;
using namespace wedge::data;

namespace {

// n blocks of [2b, 2b+1]: a block is known by its input, 2b.
Blocks numbered(std::size_t n) {
  std::vector<std::int32_t> tokens(2 * n);
  std::iota(tokens.begin(), tokens.end(), 0);
  return Blocks(std::move(tokens), 1, "train");
}

std::vector<std::int32_t> order_of(const Batches& batches) {
  std::vector<std::int32_t> order, inputs, targets;
  for (std::int64_t i = 0; i < batches.count(); ++i) {
    batches.fill(i, inputs, targets);
    for (const std::int32_t token : inputs) order.push_back(token / 2);
  }
  return order;
}

}  // namespace

TEST_CASE("batches: stream order, rows of inputs and targets, a smaller last batch", "[batches]") {
  std::vector<std::int32_t> tokens(5 * 4);
  std::iota(tokens.begin(), tokens.end(), 0);
  const Blocks blocks(tokens, 3, "train");
  const Batches batches(blocks, 2, false, 42);
  REQUIRE(batches.count() == 3);
  std::vector<std::int32_t> inputs(99), targets;
  CHECK(batches.fill(0, inputs, targets) == 2);
  CHECK(inputs == std::vector<std::int32_t>{0, 1, 2, 4, 5, 6});
  CHECK(targets == std::vector<std::int32_t>{1, 2, 3, 5, 6, 7});
  CHECK(batches.fill(2, inputs, targets) == 1);
  CHECK(inputs == std::vector<std::int32_t>{16, 17, 18});
  CHECK(targets == std::vector<std::int32_t>{17, 18, 19});
}

TEST_CASE("batches: an epoch holds every block once, whatever the batch size", "[batches]") {
  const Blocks blocks = numbered(23);
  std::vector<std::int32_t> sorted(23);
  std::iota(sorted.begin(), sorted.end(), 0);
  for (const std::int64_t size : {std::int64_t{1}, std::int64_t{4}, std::int64_t{23}, std::int64_t{24},
                                  std::numeric_limits<std::int64_t>::max()}) {
    Batches batches(blocks, size, true, 7);
    CHECK(batches.count() == (size > 23 ? 1 : (23 + size - 1) / size));
    batches.start_epoch(3);
    auto order = order_of(batches);
    CHECK_FALSE(std::is_sorted(order.begin(), order.end()));
    std::sort(order.begin(), order.end());
    CHECK(order == sorted);
  }
}

TEST_CASE("batches: the order depends on seed and epoch alone", "[batches]") {
  const Blocks blocks = numbered(50);
  Batches a(blocks, 8, true, 42), b(blocks, 5, true, 42), other(blocks, 8, true, 43);
  const auto first = order_of(a);
  CHECK(order_of(b) == first);
  CHECK(order_of(other) != first);
  a.start_epoch(2);
  const auto third = order_of(a);
  CHECK(third != first);
  b.start_epoch(1);
  CHECK(order_of(b) != first);
  b.start_epoch(2);
  CHECK(order_of(b) == third);
  a.start_epoch(0);
  CHECK(order_of(a) == first);

  Batches plain(blocks, 8, false, 42);
  plain.start_epoch(5);
  const auto order = order_of(plain);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("batches: all orders are equally likely", "[batches]") {
  const Blocks blocks = numbered(4);
  Batches batches(blocks, 4, true, 1);
  std::map<std::vector<std::int32_t>, int> seen;
  constexpr int kEpochs = 24 * 500;
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    batches.start_epoch(epoch);
    ++seen[order_of(batches)];
  }
  REQUIRE(seen.size() == 24);
  double chi_squared = 0;
  for (const auto& [order, n] : seen) chi_squared += (n - 500.0) * (n - 500.0) / 500.0;
  CHECK(chi_squared < 49.7);  // 23 degrees of freedom: exceeded once in a thousand seeds
  CHECK(chi_squared > 7.5);   // and as rarely undercut
}

TEST_CASE("batches: what cannot be", "[batches]") {
  const Blocks blocks = numbered(4);
  CHECK_THROWS_AS(Batches(blocks, 0, true, 1), Error);
  Batches batches(blocks, 4, true, 1);
  std::vector<std::int32_t> inputs, targets;
  CHECK_THROWS_AS(batches.fill(1, inputs, targets), Error);
  CHECK_THROWS_AS(batches.fill(-1, inputs, targets), Error);
  CHECK_THROWS_AS(batches.start_epoch(-1), Error);
}
