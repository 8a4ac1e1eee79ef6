// The emulator's threads: what a right kernel computes, and that planted faults are shown.
#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <string>

#include "tensor/check.h"
#include "tensor/dtype.h"
#include "tensor/rng.h"
#include "tests/emulator/device_array.h"
#include "tests/emulator/kernels.h"
#include "tests/support/catch.h"

using namespace wedge;
using namespace wedge::emulator_test;

namespace {

constexpr int kSeeds = 20;

std::vector<float> random_values(std::size_t n, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(n);
  for (float& value : values) value = static_cast<float>(rng.normal());
  return values;
}

// What run_fault says for one seed: the message of its error, or "" and its output in *y.
std::string report(Fault fault, std::uint64_t seed, std::vector<float>* y = nullptr) {
  constexpr int kN = 128;
  std::vector<float> x(kN);
  std::iota(x.begin(), x.end(), 1.0f);
  const DeviceArray<float> dx(x), dy(std::vector<float>(kN, 0.0f));
  emulator::set_seed(seed);
  try {
    run_fault(fault, kN, dx.data(), dy.data());
  } catch (const Error& error) {
    return error.what();
  }
  if (y != nullptr) *y = dy.values();
  return "";
}

// Seeds of kSeeds whose result differs from `expected` (NaN included).
int wrong_results(Fault fault, const std::vector<float>& expected) {
  int wrong = 0;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    std::vector<float> y;
    REQUIRE(report(fault, seed, &y).empty());
    wrong += y != expected;
  }
  return wrong;
}

std::vector<float> neighbours() {
  std::vector<float> value(128), next(128);
  std::iota(value.begin(), value.end(), 1.0f);
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < 128; ++i)
      next[i] = value[i] + (value[(i + 1) % 128] + value[(i + 127) % 128]);
    value = next;
  }
  return value;
}

}  // namespace

TEST_CASE("emulator: every thread of the grid runs once, with its indices", "[emulator]") {
  const dim3 grid = GENERATE(dim3(1), dim3(7), dim3(3, 2), dim3(2, 3, 4));
  const dim3 block = GENERATE(dim3(1), dim3(32), dim3(96), dim3(5, 3, 2));
  const std::size_t per_block = block.x * block.y * block.z;
  const DeviceArray<std::uint64_t> out(std::vector<std::uint64_t>(grid.x * grid.y * grid.z * per_block, 0));
  indices(grid, block, out.data());
  const std::vector<std::uint64_t> values = out.values();
  for (unsigned b = 0; b < grid.x * grid.y * grid.z; ++b)
    for (unsigned t = 0; t < per_block; ++t) {
      const uint3 bi{b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)};
      const uint3 ti{t % block.x, t / block.x % block.y, t / (block.x * block.y)};
      REQUIRE(values[b * per_block + t] == packed(bi, ti));
    }
}

TEST_CASE("emulator: barriers and dynamic shared memory", "[emulator]") {
  const int n = GENERATE(1, 31, 32, 33, 256, 1024);
  std::vector<float> x = random_values(static_cast<std::size_t>(n), 1);
  const DeviceArray<float> dx(x), dy(x.size());
  std::reverse(x.begin(), x.end());
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    emulator::set_seed(seed);
    reverse(n, dx.data(), dy.data());
    REQUIRE(dy.values() == x);
  }
}

TEST_CASE("emulator: shuffles follow the rules of PTX", "[emulator]") {
  const int width = GENERATE(32, 16, 8, 2, 1);
  const int operand = GENERATE(0, 1, 3, 16, 31);
  std::vector<int> x(32);
  for (int lane = 0; lane < 32; ++lane) x[static_cast<std::size_t>(lane)] = 100 + lane * lane;
  const DeviceArray<int> dx(x), dy(128);
  shuffles(dx.data(), operand, width, dy.data());
  const std::vector<int> y = dy.values();
  for (int lane = 0; lane < 32; ++lane) {
    const int start = lane / width * width;
    const auto value = [](int l) { return 100 + l * l; };
    const auto at = [&](int kind) { return y[static_cast<std::size_t>(kind * 32 + lane)]; };
    CHECK(at(0) == value(start + operand % width));
    CHECK(at(1) == value(lane - operand >= start ? lane - operand : lane));
    CHECK(at(2) == value(lane + operand < start + width ? lane + operand : lane));
    CHECK(at(3) == value((lane ^ operand) < start + width ? lane ^ operand : lane));
  }
}

TEST_CASE("emulator: votes count the lanes of their mask", "[emulator]") {
  const unsigned mask = GENERATE(~0u, 1u, 0x80000000u, 0x0000ffffu, 0x5a5a5a5au);
  const unsigned positive = GENERATE(0u, ~0u, 0x0f0f0f0fu);
  std::vector<int> x(32);
  for (unsigned lane = 0; lane < 32; ++lane) x[lane] = (positive >> lane & 1) != 0 ? 1 : -1;
  const DeviceArray<int> dx(x);
  const DeviceArray<unsigned> out(3);
  votes(dx.data(), mask, out.data());
  CHECK(out.values() ==
        std::vector<unsigned>{positive & mask, (positive & mask) != 0, (positive & mask) == mask});
}

TEST_CASE("emulator: sums over warps and blocks, whatever the order of threads", "[emulator]") {
  const int n = GENERATE(32, 64, 256, 1024);
  const std::vector<float> x = random_values(static_cast<std::size_t>(n), 2);
  const DeviceArray<float> dx(x), dy(4);
  std::vector<float> first;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    emulator::set_seed(seed);
    block_sums(n, dx.data(), dy.data());
    const std::vector<float> y = dy.values();
    if (first.empty()) first = y;
    REQUIRE(y == first);
  }
  CHECK(first[0] == Approx(std::accumulate(x.begin(), x.end(), 0.0)).margin(1e-4));
  CHECK(first[1] == *std::max_element(x.begin(), x.end()));
  CHECK(first[2] == Approx(std::accumulate(x.begin(), x.begin() + 32, 0.0)).margin(1e-5));
  CHECK(first[3] == *std::max_element(x.begin(), x.begin() + 32));
}

TEST_CASE("emulator: atomics", "[emulator]") {
  std::vector<float> x(1000);
  std::iota(x.begin(), x.end(), 1.0f);
  const DeviceArray<float> dx(x), sum(std::vector<float>{0.0f});
  const DeviceArray<int> most(std::vector<int>{0});
  atomics(1000, dx.data(), sum.data(), most.data());
  CHECK(sum.values()[0] == 500500.0f);
  CHECK(most.values()[0] == 1000);
}

TEST_CASE("emulator: every block finds its shared memory full of NaN", "[emulator]") {
  const DeviceArray<float> y(5);
  fresh_shared(5, y.data());
  CHECK(y.values() == std::vector<float>(5, 1.0f));
}

TEST_CASE("emulator: cp.async, ldmatrix and mma against plain loops", "[emulator]") {
  const bool b_transposed = GENERATE(false, true);
  Rng rng(3);
  const auto bf16 = [&] { return BFloat16(static_cast<float>(rng.normal())).bits; };
  std::vector<std::uint16_t> A(256), B(128);
  std::generate(A.begin(), A.end(), bf16);
  std::generate(B.begin(), B.end(), bf16);
  const std::vector<float> D = random_values(128, 4);
  const auto value = [](std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); };
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    emulator::set_seed(seed);
    const DeviceArray<std::uint16_t> da(A), db(B);
    const DeviceArray<float> dd(D);
    tensor_cores(da.data(), db.data(), b_transposed, dd.data());
    const std::vector<float> y = dd.values();
    for (std::size_t i = 0; i < 16; ++i)
      for (std::size_t j = 0; j < 8; ++j) {
        double sum = D[i * 8 + j];
        for (std::size_t k = 0; k < 16; ++k)
          sum += double{value(A[i * 16 + k])} * value(b_transposed ? B[j * 16 + k] : B[k * 8 + j]);
        REQUIRE(y[i * 8 + j] == Approx(sum).margin(1e-6));
      }
  }
}

TEST_CASE("emulator: ldmatrix gives each lane its elements", "[emulator]") {
  const bool transposed = GENERATE(false, true);
  std::vector<std::uint16_t> rows(256);
  std::iota(rows.begin(), rows.end(), std::uint16_t{0});
  const DeviceArray<std::uint16_t> dx(rows);
  const DeviceArray<std::uint32_t> r(128);
  load_matrices(dx.data(), transposed, r.data());
  const std::vector<std::uint32_t> values = r.values();
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned g = lane / 4, t = lane % 4;
      const unsigned low = i * 64 + (transposed ? 2 * t * 8 + g : g * 8 + 2 * t);
      const unsigned high = low + (transposed ? 8 : 1);
      REQUIRE(values[4 * lane + i] == (low | high << 16));
    }
}

TEST_CASE("emulator: a missing barrier shows, and only that", "[emulator]") {
  CHECK(wrong_results(Fault::none, neighbours()) == 0);
  CHECK(wrong_results(Fault::no_barrier_before_read, neighbours()) > 0);
  CHECK(wrong_results(Fault::no_barrier_before_write, neighbours()) > 0);
  std::vector<float> x(128);
  std::iota(x.begin(), x.end(), 1.0f);
  CHECK(wrong_results(Fault::no_warp_barrier, x) > 0);
}

TEST_CASE("emulator: a copy that nobody waits for shows", "[emulator]") {
  std::vector<float> y(128);
  for (std::size_t i = 0; i < 128; ++i) y[i] = static_cast<float>((4 * i + 8) % 128) + 1.0f;
  CHECK(wrong_results(Fault::no_wait_for_copy, y) > 0);
}

TEST_CASE("emulator: the order of blocks is drawn from the seed", "[emulator]") {
  std::vector<float> results;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    std::vector<float> y, again;
    REQUIRE(report(Fault::depends_on_block_order, seed, &y).empty());
    REQUIRE(report(Fault::depends_on_block_order, seed, &again).empty());
    CHECK(y == again);
    results.push_back(y[0]);
  }
  std::sort(results.begin(), results.end());
  CHECK(std::unique(results.begin(), results.end()) - results.begin() > 5);
}

TEST_CASE("emulator: planted faults are reported with the kernel's name", "[emulator]") {
  struct Expected {
    Fault fault;
    const char *kernel, *text;
  };
  const auto expected = GENERATE(
      Expected{Fault::write_before_global, "out_of_bounds",
               "512 bytes of device memory was written out of its bounds"},
      Expected{Fault::write_beyond_global, "out_of_bounds",
               "512 bytes of device memory was written out of its bounds"},
      Expected{Fault::write_before_shared, "out_of_bounds", "a shared array of 512 bytes was written before"},
      Expected{Fault::write_beyond_shared, "out_of_bounds", "a shared array of 512 bytes was written beyond"},
      Expected{Fault::write_beyond_dynamic_shared, "out_of_bounds",
               "the dynamic shared array of 512 bytes was written"},
      Expected{Fault::return_before_barrier, "waits", "deadlock: 127 of 128 threads wait at __syncthreads"},
      Expected{Fault::different_barriers, "waits", "wait at different barriers, __syncthreads"},
      Expected{Fault::lanes_skip_shuffle, "waits", "of 128 threads wait at __shfl_xor_sync"},
      Expected{Fault::shuffle_from_outside_mask, "waits",
               "reads lane 20, which is not in its mask 0x0000ffff"},
      Expected{Fault::mask_lacks_caller, "waits", "lacks the lane that calls"},
      Expected{Fault::throws, "waits", "thread (3, 0, 0), planted"},
      Expected{Fault::misaligned_copy, "copy", "the source must be 16 aligned bytes"});
  INFO(expected.text);
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const std::string text = report(expected.fault, seed);
    CHECK_THAT(text, Catch::Matchers::ContainsSubstring(expected.text));
    CHECK_THAT(text, Catch::Matchers::ContainsSubstring(expected.kernel));
    CHECK_THAT(text, Catch::Matchers::ContainsSubstring("seed " + std::to_string(seed)));
    CHECK(text.find('\n') == std::string::npos);
  }
  // Nothing is left behind.
  CHECK_NOTHROW(emulator::check_memory());
  CHECK(wrong_results(Fault::none, neighbours()) == 0);
}
