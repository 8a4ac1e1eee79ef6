// How loops are split over threads, and sums that do not depend on the split.
#include "kernels/cpu/parallel.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "kernels/layernorm.h"
#include "kernels/reduce.h"
#include "tensor/check.h"
#include "tensor/rng.h"
#include "tests/support/catch.h"
#include "tests/support/threads.h"

using namespace wedge;

namespace {

std::vector<float> drawn(std::size_t n) {
  Rng rng(1);
  std::vector<float> values(n);
  for (float& x : values) x = static_cast<float>(rng.normal());
  return values;
}

}  // namespace

TEST_CASE("parallel_for covers every index once, in ranges of whole grains", "[parallel]") {
  for (const int count : {1, 2, 3, 7}) {
    const Threads threads(count);
    for (const std::int64_t n : {0, 1, 2, 6, 7, 31, 64, 1000})
      for (const std::int64_t grain : {1, 4, 33, 5000}) {
        std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
        std::atomic<int> ragged{0}, ranges{0};
        cpu::parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
          ++ranges;
          ragged += begin >= end || begin % grain != 0 || (end % grain != 0 && end != n);
          for (std::int64_t i = begin; i < end; ++i) ++visits[i];
        });
        CAPTURE(count, n, grain);
        CHECK(std::all_of(visits.begin(), visits.end(), [](const auto& v) { return v == 1; }));
        CHECK(ragged == 0);
        CHECK(ranges <= count);
        CHECK(ranges == std::min<std::int64_t>(count, (n + grain - 1) / grain));
      }
  }
}

TEST_CASE("an error on any thread reaches the caller", "[parallel]") {
  for (const int count : {1, 3}) {
    const Threads threads(count);
    for (const std::int64_t bad : {0, 5, 8})
      CHECK_THROWS_WITH(cpu::parallel_for(9, 1,
                                          [&](std::int64_t begin, std::int64_t end) {
                                            if (begin <= bad && bad < end) throw Error("on purpose");
                                          }),
                        "on purpose");
  }
}

TEST_CASE("a loop inside a parallel loop stays on its thread", "[parallel]") {
  const Threads threads(3);
  std::atomic<int> inner{0}, split{0};
  cpu::parallel_for(6, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      cpu::parallel_for(10, 1, [&](std::int64_t b, std::int64_t e) {
        ++inner;
        split += b != 0 || e != 10;
      });
  });
  CHECK(inner == 6);
  CHECK(split == 0);
}

TEST_CASE("gradients that are summed over rows have the same bits for any number of threads", "[parallel]") {
  const std::int64_t rows = 1000, D = 37;
  const auto size = static_cast<std::size_t>(rows * D);
  const std::vector<float> dy = drawn(size), s = drawn(size), ones(D, 1), mean(rows, 0), rstd(rows, 1);
  std::vector<float> first;
  for (const int count : {1, 2, 3, 5}) {
    const Threads threads(count);
    std::vector<float> dx(size), dweight(D), dbias(D);
    LayernormBackward<float> args{};
    args.rows = rows;
    args.D = D;
    args.dy = dy.data();
    args.s = s.data();
    args.mean = mean.data();
    args.rstd = rstd.data();
    args.weight = ones.data();
    args.dx = {dx.data()};
    args.dweight = {dweight.data()};
    args.dbias = {dbias.data()};
    layernorm_backward<float>(Exec{}, args);
    for (std::int64_t i = 0; i < D; ++i) {
      double want = 0;
      for (std::int64_t row = 0; row < rows; ++row) want += dy[row * D + i];
      CHECK(dbias[i] == Approx(want).margin(1e-4));
    }
    dweight.insert(dweight.end(), dbias.begin(), dbias.end());
    if (first.empty()) first = dweight;
    CHECK(dweight == first);
  }
}

TEST_CASE("reductions have the same bits for any number of threads", "[parallel]") {
  const std::vector<float> x = drawn(300000);
  for (const auto& [outer, n, inner] :
       {std::tuple{1, 300000, 1}, {30, 10000, 1}, {3, 100, 1000}, {1, 3000, 100}}) {
    std::vector<float> first;
    for (const int count : {1, 2, 3, 5}) {
      const Threads threads(count);
      std::vector<float> y(static_cast<std::size_t>(outer * inner));
      reduce<float>(Exec{}, {ReduceOp::sum, outer, n, inner, x.data(), {y.data()}});
      if (first.empty()) first = y;
      CHECK(y == first);
    }
  }
}
