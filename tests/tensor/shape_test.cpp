#include "tensor/shape.h"

#include "tensor/check.h"
#include "tests/support/catch.h"

using namespace wedge;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("numel multiplies, and refuses what does not fit", "[shape]") {
  CHECK(numel({}) == 1);
  CHECK(numel({2, 3, 4}) == 24);
  CHECK(numel({2, 0, 4}) == 0);
  CHECK_THROWS_WITH(numel({2, -1}), ContainsSubstring("sizes must be >= 0, got [2, -1]"));
  CHECK_THROWS_AS(numel({std::int64_t{1} << 40, std::int64_t{1} << 40}), Error);
  CHECK_NOTHROW(numel({std::int64_t{1} << 40, std::int64_t{1} << 22}));
}

TEST_CASE("strides of a dense tensor are row-major", "[shape]") {
  CHECK(contiguous_strides({2, 3, 4}) == Strides{12, 4, 1});
  CHECK(contiguous_strides({5}) == Strides{1});
  CHECK(contiguous_strides({}).empty());
  CHECK_THROWS_WITH(contiguous_strides({0, std::int64_t{1} << 62, 2}),
                    ContainsSubstring("too many elements"));
}

TEST_CASE("shapes print as lists", "[shape]") {
  CHECK(to_string(Shape{}) == "[]");
  CHECK(to_string(Shape{2, 30}) == "[2, 30]");
}

TEST_CASE("dimensions that both operands step through evenly are one", "[shape]") {
  Shape sizes = {2, 1, 3, 4, 5};
  Strides dense = {60, 7, 20, 5, 1}, broadcast = {12, 7, 4, 1, 0};  // over the last
  REQUIRE(merge_dimensions(5, sizes.data(), dense.data(), broadcast.data()) == 2);
  CHECK((sizes[0] == 24 && dense[0] == 5 && broadcast[0] == 1));
  CHECK((sizes[1] == 5 && dense[1] == 1 && broadcast[1] == 0));
  CHECK(merge_dimensions(0, nullptr, nullptr, nullptr) == 0);
}

TEST_CASE("broadcasting follows NumPy", "[shape]") {
  CHECK(broadcast_shapes({2, 3}, {2, 3}, "op") == Shape{2, 3});
  CHECK(broadcast_shapes({2, 3}, {3}, "op") == Shape{2, 3});
  CHECK(broadcast_shapes({3}, {2, 3}, "op") == Shape{2, 3});
  CHECK(broadcast_shapes({2, 1, 4}, {3, 1}, "op") == Shape{2, 3, 4});
  CHECK(broadcast_shapes({}, {2}, "op") == Shape{2});
  CHECK(broadcast_shapes({1}, {}, "op") == Shape{1});
  CHECK(broadcast_shapes({0}, {1}, "op") == Shape{0});
  CHECK(broadcast_shapes({1, 3}, {0, 1}, "op") == Shape{0, 3});
  CHECK_THROWS_WITH(broadcast_shapes({2, 3}, {2}, "some_op"),
                    ContainsSubstring("some_op: shapes [2, 3] and [2] do not broadcast"));
  CHECK_THROWS_AS(broadcast_shapes({0}, {2}, "op"), Error);
}

TEST_CASE("dimensions count from either end", "[shape]") {
  CHECK(normalize_dim(0, 3, "op") == 0);
  CHECK(normalize_dim(2, 3, "op") == 2);
  CHECK(normalize_dim(-1, 3, "op") == 2);
  CHECK(normalize_dim(-3, 3, "op") == 0);
  CHECK_THROWS_WITH(normalize_dim(3, 3, "some_op"),
                    ContainsSubstring("some_op: dimension must be in [-3, 3)"));
  CHECK_THROWS_AS(normalize_dim(-4, 3, "op"), Error);
  CHECK_THROWS_AS(normalize_dim(0, 0, "op"), Error);
}
