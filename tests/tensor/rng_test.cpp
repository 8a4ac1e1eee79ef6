#include "tensor/rng.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <vector>

#include "tensor/tensor.h"
#include "tests/support/catch.h"

using namespace wedge;

namespace {

using Words = std::array<std::uint32_t, 4>;

Words words_of(std::uint64_t key, const Words& counter) {
  const Philox4 out = philox(key, counter[0], counter[1], counter[2], counter[3]);
  return {out.v[0], out.v[1], out.v[2], out.v[3]};
}

}  // namespace

TEST_CASE("Philox4x32-10 gives the published vectors", "[rng]") {
  // Random123's known answers.
  CHECK(words_of(0, {0, 0, 0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(words_of(~std::uint64_t{0}, {~0u, ~0u, ~0u, ~0u}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(words_of(0x299f31d0a4093822, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("Rng walks the counter of its stream", "[rng]") {
  const std::uint64_t seed = 0x123456789abcdef0;
  Rng rng(seed, RandomStream::corpus, 9);
  for (std::uint32_t block = 0; block < 3; ++block)
    for (const std::uint32_t word : words_of(seed, {block, 0, 9, 3})) CHECK(rng.next_u32() == word);
}

TEST_CASE("streams, substreams and seeds differ, equal ones agree", "[rng]") {
  std::set<std::uint32_t> first;
  for (const std::uint64_t seed : {0ull, 1ull, 1ull << 32})
    for (const auto stream :
         {RandomStream::init, RandomStream::shuffle, RandomStream::corpus, RandomStream::user})
      for (const std::uint32_t substream : {0u, 1u}) {
        Rng a(seed, stream, substream), b(seed, stream, substream);
        const std::uint32_t word = a.next_u32();
        CHECK(word == b.next_u32());
        first.insert(word);
      }
  CHECK(first.size() == 24);
}

TEST_CASE("uniform numbers fill their range evenly", "[rng]") {
  constexpr int kCount = 200000, kBins = 64;
  Rng rng(1);
  std::vector<int> bins(kBins, 0);
  double sum = 0, squares = 0;
  bool in_range = true, uses_low_bits = false;
  for (int i = 0; i < kCount; ++i) {
    const double u = rng.uniform();
    in_range &= u >= 0 && u < 1;
    uses_low_bits |= std::fmod(u * 0x1p53, 2.0) == 1;
    ++bins[static_cast<int>(u * kBins)];
    sum += u;
    squares += u * u;
  }
  CHECK(in_range);
  CHECK(uses_low_bits);
  CHECK(sum / kCount == Approx(0.5).margin(0.003));  // 4.6 standard errors
  CHECK(squares / kCount == Approx(1.0 / 3).margin(0.003));
  double chi2 = 0;
  for (const int n : bins) chi2 += std::pow(n - kCount / kBins, 2) / (kCount / kBins);
  CHECK(chi2 > 25);  // 63 degrees of freedom: 63 ± 11
  CHECK(chi2 < 125);
}

TEST_CASE("normal numbers have the normal's moments and tails", "[rng]") {
  constexpr int kCount = 200000;
  Rng rng(2);
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, lag = 0, before = 0;
  int beyond2 = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = rng.normal();
    m1 += x / kCount;
    m2 += x * x / kCount;
    m3 += x * x * x / kCount;
    m4 += x * x * x * x / kCount;
    lag += x * before / kCount;
    before = x;
    beyond2 += std::abs(x) > 2;
  }
  CHECK(m1 == Approx(0).margin(0.01));
  CHECK(m2 == Approx(1).margin(0.015));
  CHECK(m3 == Approx(0).margin(0.04));
  CHECK(m4 == Approx(3).margin(0.12));
  CHECK(lag == Approx(0).margin(0.01));
  CHECK(beyond2 / static_cast<double>(kCount) == Approx(0.0455).margin(0.002));
}

TEST_CASE("below is even and stays below", "[rng]") {
  Rng rng(3);
  std::vector<int> counts(7, 0);
  for (int i = 0; i < 70000; ++i) ++counts.at(rng.below(7));
  for (const int n : counts) CHECK(n == Approx(10000).margin(420));  // 4.5 deviations
  for (int i = 0; i < 10; ++i) CHECK(rng.below(1) == 0);
  // Rejection matters where n is near 2^64: a plain remainder would favour the low third.
  const std::uint64_t n = 3ull << 62;
  int low = 0;
  for (int i = 0; i < 30000; ++i) low += rng.below(n) < (1ull << 62);
  CHECK(low == Approx(10000).margin(370));
}

TEST_CASE("drawn tensors hold the same numbers, rounded, in every dtype", "[rng]") {
  const auto draw = [](DType dtype, bool normal) {
    Rng rng(4, RandomStream::init);
    return normal ? Tensor::normal({5, 7}, rng, 1, 2, dtype) : Tensor::uniform({5, 7}, rng, -1, 3, dtype);
  };
  for (const bool normal : {false, true}) {
    const Tensor exact = draw(DType::f64, normal);
    CHECK(draw(DType::f32, normal).to_vector() == exact.to(DType::f32).to_vector());
    CHECK(draw(DType::bf16, normal).to_vector() == exact.to(DType::f32).to(DType::bf16).to_vector());
    Rng rng(4, RandomStream::init);
    for (const double x : exact.to_vector())
      CHECK(x == (normal ? 1 + 2 * rng.normal() : -1 + 4 * rng.uniform()));
  }
}
