#include "bench/machine_rates.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/matmul.h"

namespace wedge::bench {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Seconds of the fastest call of `body` in about 0.5 s, at least three calls.
template <class Body>
double best_seconds(Body&& body) {
  body();
  const auto start = std::chrono::steady_clock::now();
  double best = 1e9;
  for (int calls = 0; calls < 3 || seconds_since(start) < 0.5; ++calls) {
    const auto call = std::chrono::steady_clock::now();
    body();
    best = std::min(best, seconds_since(call));
  }
  return best;
}

}  // namespace

std::vector<ProductShape> step_products(std::int64_t head_rows) {
  std::vector<ProductShape> shapes;
  const auto add = [&](const std::string& name, std::int64_t rows, std::int64_t in, std::int64_t out) {
    shapes.push_back({name + " forward", false, true, rows, out, in});
    shapes.push_back({name + " input gradient", false, false, rows, in, out});
    shapes.push_back({name + " weight gradient", true, false, out, in, rows});
  };
  constexpr std::int64_t T = 2048, d = 256, V = 30522;
  add("qkv", T, d, 3 * d);
  add("projection", T, d, d);
  add("feed-forward up", T, d, 4 * d);
  add("feed-forward down", T, 4 * d, d);
  add("reduce", T, d, 32);
  add("expand", T, 496, d);
  add("head", head_rows, d, V);
  return shapes;
}

double sgemm_rate(const ProductShape& s) {
  std::vector<float> a(static_cast<std::size_t>(s.M * s.K), 0.5f),
      b(static_cast<std::size_t>(s.K * s.N), 0.25f), c(static_cast<std::size_t>(s.M * s.N));
  const Gemm<float> g{.trans_a = s.trans_a,
                      .trans_b = s.trans_b,
                      .M = s.M,
                      .N = s.N,
                      .K = s.K,
                      .A = a.data(),
                      .lda = s.trans_a ? s.M : s.K,
                      .B = b.data(),
                      .ldb = s.trans_b ? s.K : s.N,
                      .C = c.data(),
                      .ldc = s.N};
  const double seconds = best_seconds([&] { gemm<float>(Exec{}, g); });
  return 2.0 * static_cast<double>(s.M * s.N * s.K) / seconds / 1e9;
}

double copy_rate() {
  constexpr std::int64_t kBytes = std::int64_t{128} << 20;
  std::vector<char> from(kBytes, 1), to(kBytes);
  const double seconds = best_seconds([&] {
    cpu::parallel_for(kBytes, 1 << 20, [&](std::int64_t begin, std::int64_t end) {
      std::memcpy(to.data() + begin, from.data() + begin, static_cast<std::size_t>(end - begin));
    });
  });
  return 2.0 * static_cast<double>(kBytes) / seconds / 1e9;
}

}  // namespace wedge::bench
