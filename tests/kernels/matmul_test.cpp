// gemm against three loops: every transposition, padding between rows, alpha, beta, batches.
#include "kernels/matmul.h"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "kernels/cpu/amx_tile.h"
#include "tensor/rng.h"
#include "tests/support/catch.h"
#include "tests/support/threads.h"

using namespace wedge;

namespace {

template <class T>
std::vector<T> drawn(std::int64_t n, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<T> values(static_cast<std::size_t>(n));
  for (T& x : values) x = static_cast<T>(rng.uniform() * 2 - 1);
  return values;
}

// Runs one product in rows that are `padding` longer than they need to be; returns the largest error, as a
// part of what rounding may do to a sum of K terms in any order, or infinity when the padding was touched.
template <class T>
double error_of(Gemm<T> g, std::int64_t padding) {
  const std::int64_t a_rows = g.A.transposed ? g.K : g.M, a_cols = g.A.transposed ? g.M : g.K;
  const std::int64_t b_rows = g.B.transposed ? g.N : g.K, b_cols = g.B.transposed ? g.K : g.N;
  g.A.ld = a_cols + padding;
  g.B.ld = b_cols + padding;
  g.C.ld = g.N + padding;
  g.A.stride = a_rows * g.A.ld;
  g.B.stride = b_rows * g.B.ld;
  g.C.stride = g.M * g.C.ld;
  const std::vector<T> a = drawn<T>(g.batches * g.A.stride, 1), b = drawn<T>(g.batches * g.B.stride, 2);
  // C begins at a line of cache.
  constexpr std::int64_t line = 64 / sizeof(T);
  std::vector<T> memory = drawn<T>(g.batches * g.C.stride + line, 3);
  T* c = memory.data();
  while (reinterpret_cast<std::uintptr_t>(c) % 64 != 0) ++c;
  const std::vector<T> before(c, c + g.batches * g.C.stride);
  if (g.beta == T(0))  // what C holds must not matter then
    for (std::int64_t i = 0; i < g.batches * g.M; ++i)
      for (std::int64_t k = 0; k < g.N; ++k) c[i * g.C.ld + k] = std::numeric_limits<T>::quiet_NaN();
  g.A.data = a.data();
  g.B.data = b.data();
  g.C.data = c;
  cpu::gemm<T>(Exec{}, g);

  double worst = 0;
  const std::int64_t some =
      g.M * g.N * g.K > 1 << 25 ? 7 : 1;  // of large ones every seventh row: all places in tiles
  for (std::int64_t batch = 0; batch < g.batches; ++batch)
    for (std::int64_t i = 0; i < g.M; i += some)
      for (std::int64_t j = 0; j < g.C.ld; ++j) {
        const std::int64_t at = batch * g.C.stride + i * g.C.ld + j;
        if (j >= g.N) {
          if (c[at] != before[at]) return HUGE_VAL;
          continue;
        }
        double sum = 0, terms = 0;
        for (std::int64_t k = 0; k < g.K; ++k) {
          const std::int64_t ia = batch * g.A.stride + (g.A.transposed ? k * g.A.ld + i : i * g.A.ld + k);
          const std::int64_t ib = batch * g.B.stride + (g.B.transposed ? j * g.B.ld + k : k * g.B.ld + j);
          sum += static_cast<double>(a[ia]) * static_cast<double>(b[ib]);
          terms += std::abs(static_cast<double>(a[ia]) * static_cast<double>(b[ib]));
        }
        const double old = g.beta == T(0) ? 0.0 : g.beta * static_cast<double>(before[at]);
        const double allowed = 0.5 * std::numeric_limits<T>::epsilon() * static_cast<double>(g.K + 3) *
                               (std::abs(g.alpha) * terms + std::abs(old));
        const double error = std::abs(c[at] - (g.alpha * sum + old)) / allowed;
        worst = std::isnan(error) ? HUGE_VAL : std::max(worst, error);
      }
  return worst;
}

template <class T>
Gemm<T> product(bool ta, bool tb, std::int64_t M, std::int64_t N, std::int64_t K) {
  Gemm<T> g{};
  g.A.transposed = ta;
  g.B.transposed = tb;
  g.M = M;
  g.N = N;
  g.K = K;
  return g;
}

}  // namespace

TEMPLATE_TEST_CASE("products of every transposition agree with three loops", "[matmul]", float, double) {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const auto& [M, N, K] : {std::tuple{1, 1, 1},
                                    {3, 5, 4},
                                    {1, 7, 9},
                                    {8, 1, 6},
                                    {31, 33, 32},
                                    {67, 129, 65},
                                    {161, 190, 95}})
        for (const std::int64_t padding : {0, 3})
          for (const auto& [alpha, beta] : {std::pair{1.0, 0.0}, {1.0, 1.0}, {-0.5, 0.0}, {2.0, -0.25}}) {
            Gemm<TestType> g = product<TestType>(ta, tb, M, N, K);
            g.alpha = static_cast<TestType>(alpha);
            g.beta = static_cast<TestType>(beta);
            CAPTURE(ta, tb, M, N, K, padding, alpha, beta);
            CHECK(error_of(g, padding) <= 1);
          }
}

// More than is packed at once: rows; columns and depth; depth of few columns; both sides and depth, of which
// what is packed again and what is not depends on the threads.
TEMPLATE_TEST_CASE("products larger than what is packed at once agree with three loops", "[matmul]", float,
                   double) {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const auto& [M, N, K] : {std::tuple{2800, 20, 400},
                                    {20, 2100, 300},
                                    {7, 17, 17000},
                                    {391, 49, 513},
                                    {391, 149, 513},
                                    {600, 580, 1500},
                                    {290, 300, 1024}}) {
        const Threads two(2);
        Gemm<TestType> g = product<TestType>(ta, tb, M, N, K);
        g.alpha = static_cast<TestType>(0.5);
        g.beta = static_cast<TestType>(-1);
        CAPTURE(ta, tb, M, N, K);
        CHECK(error_of(g, 1) <= 1);
      }
}

// A C of 32 MB and more, whose rows are whole lines of cache, or are not.
TEMPLATE_TEST_CASE("products that no cache holds agree with three loops", "[matmul]", float, double) {
  for (const std::int64_t padding : {8, 3}) {
    CAPTURE(padding);
    CHECK(error_of(product<TestType>(false, true, 1037, 8200, 2), padding) <= 1);
    CHECK(error_of(product<TestType>(false, true, 1037, 8200, 33), padding) <= 1);
  }
}

TEST_CASE("the tiles that are to be tested are there", "[matmul]") {
  const char* const expected = std::getenv("WEDGE_TEST_AMX");
  if (expected != nullptr) CHECK(cpu::has_amx());
}

// Where numbers of float32 are multiplied in parts, these are what parts can't hold.
TEST_CASE("infinities, NaN and the largest numbers are multiplied as loops do", "[matmul]") {
  constexpr float infinity = std::numeric_limits<float>::infinity(),
                  largest = std::numeric_limits<float>::max();
  constexpr std::int64_t M = 130, N = 150, K = 610;
  static_assert(cpu::AmxTile<3>::pays(M, N, K));
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const float beta : {0.f, 1.f}) {
        std::vector<float> a = drawn<float>(M * K, 1), b = drawn<float>(K * N, 2), c = drawn<float>(M * N, 3);
        const auto at_a = [&](std::int64_t i, std::int64_t k) -> float& {
          return a[ta ? k * M + i : i * K + k];
        };
        const auto at_b = [&](std::int64_t k, std::int64_t j) -> float& {
          return b[tb ? j * K + k : k * N + j];
        };
        at_a(3, 0) = infinity;
        at_a(129, 609) = -infinity;
        at_a(41, 300) = std::numeric_limits<float>::quiet_NaN();
        at_a(99, 17) = largest;
        at_a(98, 18) = -largest;
        at_b(18, 1) = at_b(17, 1) = 1.f / 1024;  // finite sums of numbers next to infinity
        at_b(0, 7) = 0;                          // infinity times zero
        at_b(301, 33) = infinity;
        at_b(600, 149) = std::numeric_limits<float>::signaling_NaN();
        const std::vector<float> before = c;
        cpu::gemm<float>(Exec{}, {.M = M,
                                  .N = N,
                                  .K = K,
                                  .A = {.data = a.data(), .ld = ta ? M : K, .transposed = ta},
                                  .B = {.data = b.data(), .ld = tb ? K : N, .transposed = tb},
                                  .C = {c.data(), N},
                                  .beta = beta});
        for (std::int64_t i = 0; i < M; ++i)
          for (std::int64_t j = 0; j < N; ++j) {
            double sum = beta * before[i * N + j], terms = std::abs(sum);
            for (std::int64_t k = 0; k < K; ++k) {
              const double term = static_cast<double>(at_a(i, k)) * static_cast<double>(at_b(k, j));
              sum += term;
              terms += std::abs(term);
            }
            CAPTURE(ta, tb, beta, i, j, sum, c[i * N + j]);
            if (std::isfinite(sum))
              REQUIRE(std::abs(c[i * N + j] - sum) <= 2 * std::numeric_limits<float>::epsilon() * terms);
            else if (std::isnan(sum))
              REQUIRE(std::isnan(c[i * N + j]));
            else
              REQUIRE(c[i * N + j] == static_cast<float>(sum));
          }
      }
}

// Not only within what rounding allows: a product of parts that left out one of the six would be. Parts are
// added to few sums, which leaves 0.44 of the error at most.
TEST_CASE("products of float32 are as exact as sums of float32 one after another", "[matmul]") {
  for (const auto& [M, N, K] : {std::tuple{128, 96, 64}, {64, 64, 1024}})
    for (const double scale : {1.0, 1e-12, 1e12}) {
      CHECK(cpu::AmxTile<3>::pays(M, N, K));
      std::vector<float> a = drawn<float>(M * K, 1), b = drawn<float>(K * N, 2),
                         c(static_cast<std::size_t>(M * N));
      for (float& x : a) x *= static_cast<float>(scale);
      cpu::gemm<float>(Exec{},
                       {.M = M, .N = N, .K = K, .A = {a.data(), K}, .B = {b.data(), N}, .C = {c.data(), N}});
      double ours = 0, loops = 0;
      for (std::int64_t i = 0; i < M; ++i)
        for (std::int64_t j = 0; j < N; ++j) {
          double exact = 0;
          float sum = 0;
          for (std::int64_t k = 0; k < K; ++k) {
            exact += static_cast<double>(a[i * K + k]) * static_cast<double>(b[k * N + j]);
            sum += a[i * K + k] * b[k * N + j];
          }
          ours += std::pow((c[i * N + j] - exact) / scale, 2);
          loops += std::pow((sum - exact) / scale, 2);
        }
      CAPTURE(M, N, K, scale, std::sqrt(ours / (M * N)), std::sqrt(loops / (M * N)));
      CHECK(ours <= (cpu::has_amx() ? 0.25 : 1) * loops);
    }
}

namespace {

std::vector<BFloat16> rounded_copy(const std::vector<float>& values) {
  std::vector<BFloat16> copy;
  for (const float x : values) copy.emplace_back(x);
  return copy;
}
bool same_bits(float x, float y) {
  return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y) ||
         (std::isnan(x) && std::isnan(y));
}

// `got` is the product of a and b, whose factors were rounded on the way: that of copies that are rounded
// already, one or both, has its bits, and rounded it is what rounded_gemm() makes.
void check_of_rounded(Gemm<float> g, const std::vector<float>& a, const std::vector<float>& b,
                      const std::vector<float>& got) {
  const Exec exec{.bf16_products_on_cpu = true};
  const std::vector<BFloat16> ra = rounded_copy(a), rb = rounded_copy(b);
  REQUIRE(cpu::rounds_factors(exec, g.M, g.N, g.K));
  for (const auto& [a_is, b_is] : {std::pair{true, false}, {false, true}, {true, true}}) {
    std::vector<float> c = drawn<float>(g.M * g.N, 3);
    g.A.data = a_is ? nullptr : a.data();
    g.A.rounded = a_is ? ra.data() : nullptr;
    g.B.data = b_is ? nullptr : b.data();
    g.B.rounded = b_is ? rb.data() : nullptr;
    g.C.data = c.data();
    cpu::gemm<float>(exec, g);
    CAPTURE(a_is, b_is);
    REQUIRE(std::ranges::equal(c, got, same_bits));
  }
  if (g.beta != 0 || !cpu::rounds_products(exec, g.M, g.N, g.K)) return;
  std::vector<BFloat16> c(static_cast<std::size_t>(g.M * g.N));
  cpu::rounded_gemm({g.M, g.N, g.K, g.A, g.B, {c.data(), g.N}, g.alpha});
  for (std::size_t i = 0; i < c.size(); ++i)
    REQUIRE(same_bits(static_cast<float>(c[i]), static_cast<float>(BFloat16(got[i]))));
}

// Of sizes that gain by it, where the processor has the unit, the product of rounded factors; of others what
// it is without.
void check_rounded(Gemm<float> g) {
  const std::int64_t M = g.M, N = g.N, K = g.K;
  CAPTURE(g.A.transposed, g.B.transposed, M, N, K, g.alpha, g.beta);
  g.A.ld = g.A.transposed ? M : K;
  g.B.ld = g.B.transposed ? K : N;
  g.C.ld = N;
  const auto a_at = [&](std::int64_t i, std::int64_t k) {
    return static_cast<std::size_t>(g.A.transposed ? k * M + i : i * K + k);
  };
  const auto b_at = [&](std::int64_t k, std::int64_t j) {
    return static_cast<std::size_t>(g.B.transposed ? j * K + k : k * N + j);
  };
  const auto run = [&](const std::vector<float>& left, const std::vector<float>& right, bool rounds) {
    std::vector<float> c = drawn<float>(M * N, 3);
    g.A.data = left.data();
    g.B.data = right.data();
    g.C.data = c.data();
    cpu::gemm<float>(Exec{.bf16_products_on_cpu = rounds}, g);
    return c;
  };
  std::vector<float> a = drawn<float>(M * K, 1), b = drawn<float>(K * N, 2);
  if (!cpu::AmxTile<1>::pays(M, N, K) || !cpu::has_amx()) {
    CHECK(run(a, b, true) == run(a, b, false));
    return;
  }
  a[a_at(M - 1, 0)] = std::bit_cast<float>(0x7f800001u);  // NaN that cut off would be infinite
  a[a_at(M - 2, 1)] = std::numeric_limits<float>::infinity();
  a[a_at(M - 3, 2)] = std::numeric_limits<float>::max();  // rounds to infinity
  const auto rounded = [](std::vector<float> values) {
    for (float& x : values) x = static_cast<float>(BFloat16(x));
    return values;
  };
  const std::vector<float> ra = rounded(a), rb = rounded(b), before = drawn<float>(M * N, 3);
  const std::vector<float> got = run(a, b, true), again = run(ra, rb, true);
  check_of_rounded(g, a, b, got);
  for (std::int64_t i = 0; i < M; ++i)
    for (std::int64_t j = 0; j < N; ++j) {
      double sum = 0, terms = 0;
      for (std::int64_t k = 0; k < K; ++k) {
        const double term = static_cast<double>(ra[a_at(i, k)]) * static_cast<double>(rb[b_at(k, j)]);
        sum += term;
        terms += std::abs(term);
      }
      const auto place = static_cast<std::size_t>(i * N + j);
      sum = g.alpha * sum + g.beta * before[place];
      CAPTURE(i, j, sum, got[place]);
      if (std::isfinite(sum)) {
        REQUIRE(std::abs(got[place] - sum) <= 4 * std::numeric_limits<float>::epsilon() * (1 + terms));
        REQUIRE(got[place] == again[place]);
      } else if (std::isnan(sum)) {
        REQUIRE(std::isnan(got[place]));
      } else {
        REQUIRE(got[place] == static_cast<float>(sum));
      }
    }
}

}  // namespace

TEST_CASE("products of float32 whose factors are to be rounded", "[matmul]") {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const auto& [M, N, K] : {std::tuple{130, 150, 610}, {64, 64, 2100}, {700, 96, 33}, {5, 6, 7}})
        for (const auto& [alpha, beta] : {std::pair{1.f, 0.f}, {0.5f, 1.f}}) {
          Gemm<float> g = product<float>(ta, tb, M, N, K);
          g.alpha = alpha;
          g.beta = beta;
          check_rounded(g);
        }
}

TEMPLATE_TEST_CASE("a product has the same bits with any number of threads", "[matmul]", float, double) {
  for (const auto& [tb, rounds] : {std::pair{false, false}, {true, false}, {false, true}, {true, true}})
    for (const auto& [M, N, K] :
         {std::tuple{300, 700, 600}, {700, 90, 1100}, {2, 50003, 37}, {13, 3001, 40}, {100, 5, 3000}}) {
      const auto a = drawn<TestType>(M * K, 1), b = drawn<TestType>(N * K, 2);
      std::vector<TestType> first;
      for (const int threads : {1, 2, 3, 7}) {
        const Threads count(threads);
        std::vector<TestType> c(static_cast<std::size_t>(M * N));
        cpu::gemm<TestType>(Exec{.bf16_products_on_cpu = rounds},
                            {.M = M,
                             .N = N,
                             .K = K,
                             .A = {a.data(), K},
                             .B = {.data = b.data(), .ld = tb ? K : N, .transposed = tb},
                             .C = {c.data(), N}});
        if (first.empty()) first = c;
        CAPTURE(tb, rounds, M, N, K, threads);
        CHECK(c == first);
      }
    }
}

TEMPLATE_TEST_CASE("a batch is as many products", "[matmul]", float, double) {
  for (const bool ta : {false, true})
    for (const auto& [M, N, K, batches] : {std::tuple{2, 3, 4, 5}, {33, 31, 17, 9}, {70, 65, 64, 3}}) {
      Gemm<TestType> g = product<TestType>(ta, !ta, M, N, K);
      g.batches = batches;
      CAPTURE(ta, M, N, K, batches);
      CHECK(error_of(g, 2) <= 1);
    }
}

TEST_CASE("an empty sum clears C, or scales it", "[matmul]") {
  for (const auto& [ta, tb] : {std::pair{false, false}, {false, true}, {true, true}})
    for (const std::int64_t M : {2, 6}) {  // few rows, and more
      for (const double beta : {0.0, 1.0, 0.5}) {
        std::vector<double> c(static_cast<std::size_t>(3 * M));
        for (std::size_t i = 0; i < c.size(); ++i) c[i] = static_cast<double>(i + 1);
        cpu::gemm<double>(Exec{}, {.M = M,
                                   .N = 3,
                                   .K = 0,
                                   .A = {.data = nullptr, .ld = 3, .transposed = ta},
                                   .B = {.data = nullptr, .ld = 3, .transposed = tb},
                                   .C = {c.data(), 3},
                                   .beta = beta});
        for (std::size_t i = 0; i < c.size(); ++i) CHECK(c[i] == beta * static_cast<double>(i + 1));
      }
    }
}

TEST_CASE("a product without rows or columns writes nothing", "[matmul]") {
  double c = 7;
  for (const auto& [M, N] : {std::pair{0, 1}, {1, 0}}) {
    cpu::gemm<double>(Exec{}, {.M = M, .N = N, .K = 1, .A = {&c, 1}, .B = {&c, 1}, .C = {&c, 1}});
    CHECK(c == 7);
  }
}
