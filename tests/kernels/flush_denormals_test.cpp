// Numbers below the smallest normal one are zero where sums and the optimiser are made, and only there.
#include "kernels/cpu/flush_denormals.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>

#include "kernels/adamw.h"
#include "kernels/causal_attention.h"
#include "kernels/cpu/parallel.h"
#include "kernels/matmul.h"
#include "tests/support/catch.h"
#include "tests/support/threads.h"

using namespace wedge;

namespace {

bool cannot_flush() {
  if (cpu::FlushDenormals::kBits != 0) return false;
  std::printf("skipped: this processor's mode is not known\n");
  return true;
}

constexpr float kSmallest = std::numeric_limits<float>::min();
constexpr float kDenormal = kSmallest / 4;

// x y as the processor makes it now, not the compiler. Whether it is zero is seen from its bits: where
// denormal numbers are flushed, a comparison takes them for zero too.
bool product_is_zero(float x, float y) {
  const volatile float left = x, right = y;
  return std::bit_cast<std::uint32_t>(left * right) == 0;
}
bool flushes_results() {
  return product_is_zero(kSmallest, 0.5f);
}
bool flushes_operands() {
  return product_is_zero(kDenormal, 8.0f);
}

}  // namespace

TEST_CASE("denormal numbers are zero while a FlushDenormals lives", "[flush_denormals]") {
  if (cannot_flush()) return;
  REQUIRE_FALSE(flushes_results());
  REQUIRE_FALSE(flushes_operands());
  {
    const cpu::FlushDenormals flush;
    CHECK(flushes_results());
    CHECK(flushes_operands());
    { const cpu::FlushDenormals again; }
    CHECK(flushes_results());
    CHECK(flushes_operands());
  }
  CHECK_FALSE(flushes_results());
  CHECK_FALSE(flushes_operands());
}

TEST_CASE("products take denormal factors for zero, and leave the mode as it was", "[flush_denormals]") {
  if (cannot_flush()) return;
  constexpr std::int64_t K = 40, N = 70;
  for (const bool trans_b : {false, true})
    for (const std::int64_t M : {1, 4, 20}) {
      CAPTURE(M, trans_b);
      const std::vector<float> a(static_cast<std::size_t>(M * K), kDenormal),
          b(static_cast<std::size_t>(K * N), 1e30f);
      std::vector<float> c(static_cast<std::size_t>(M * N), 1.0f);
      cpu::gemm<float>({}, {.M = M,
                            .N = N,
                            .K = K,
                            .A = {a.data(), K},
                            .B = {.data = b.data(), .ld = trans_b ? K : N, .transposed = trans_b},
                            .C = {c.data(), N}});
      CHECK(c == std::vector<float>(c.size(), 0.0f));
    }
  CHECK_FALSE(flushes_results());
  CHECK_FALSE(flushes_operands());
}

// Without fused multiply-adds m stays where a tenth of it is nothing.
TEST_CASE("AdamW's moments do not end among the denormal numbers", "[flush_denormals]") {
  if (cannot_flush()) return;
  float p = 1, m = kSmallest, v = kSmallest;
  const AdamWTensor<float> tensor{.n = 1, .p = &p, .g = nullptr, .m = &m, .v = &v};
  const AdamWScalars scalars{.learning_rate = 0.1, .bias_correction1 = 0.1, .sqrt_bias_correction2 = 0.1};
  const double squared_norm = 1;
  cpu::adamw_step<float>({}, {.tensors = {&tensor, 1},
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .eps = 1e-8,
                              .weight_decay = 0,
                              .grad_clip = 0,
                              .scalars = &scalars,
                              .squared_norm = &squared_norm});
  CHECK(std::fpclassify(m) != FP_SUBNORMAL);
  CHECK(std::fpclassify(v) == FP_ZERO);
  CHECK(p == 1.0f);
}

// One head of one sequence leaves its products to all threads. Those of them that it starts, as OpenMP does
// after a smaller region, would keep the mode of the thread that starts them.
TEST_CASE("attention leaves no thread that flushes", "[flush_denormals]") {
  if (cannot_flush()) return;
  const Threads four(4);
  constexpr std::int64_t L = 1024, D = 64;
  const std::vector<float> qkv(L * 3 * D, 0.01f), dout(L * D, 0.01f);
  std::vector<float> o(L * D), lse(L), dqkv(L * 3 * D);
  const auto flushing = [] {
    int count = 0;
#pragma omp parallel num_threads(4) reduction(+ : count)
    count += flushes_results();
    return count;
  };
  const auto fewer = [] { cpu::parallel_for(2, 1, [](std::int64_t, std::int64_t) {}); };
  REQUIRE(flushing() == 0);
  fewer();
  cpu::causal_attention_forward<float>(
      {}, {.B = 1, .L = L, .H = 1, .D = D, .qkv = qkv.data(), .o = o.data(), .lse = lse.data()});
  CHECK(flushing() == 0);
  fewer();
  cpu::causal_attention_backward<float>({}, {.B = 1,
                                             .L = L,
                                             .H = 1,
                                             .D = D,
                                             .qkv = qkv.data(),
                                             .o = o.data(),
                                             .lse = lse.data(),
                                             .dout = dout.data(),
                                             .dqkv = {dqkv.data()}});
  CHECK(flushing() == 0);
}
