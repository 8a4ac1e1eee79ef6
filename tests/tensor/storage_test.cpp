#include "tensor/storage.h"

#include <malloc.h>

#include <cmath>
#include <cstring>

#include "tensor/tensor.h"
#include "tests/support/catch.h"

using namespace wedge;
using Catch::Matchers::ContainsSubstring;

namespace {

struct GuardBands {
  GuardBands() { set_guard_bands(true); }
  ~GuardBands() { set_guard_bands(false); }
};

}  // namespace

TEST_CASE("storage is aligned and can be written to its last byte", "[storage]") {
  for (const bool guarded : {false, true}) {
    set_guard_bands(guarded);
    for (const std::size_t bytes : {0ul, 1ul, 63ul, 64ul, 65ul, 1000ul, 1ul << 20, (1ul << 20) + 1}) {
      const Storage s(bytes, Device::cpu);
      CHECK(reinterpret_cast<std::uintptr_t>(s.data()) % 64 == 0);
      CHECK(s.bytes() == bytes);
      std::memset(s.data(), 1, bytes);
    }
    CHECK_NOTHROW(check_guards());
  }
  set_guard_bands(false);
}

TEST_CASE("a freed block serves the next request of its size", "[storage]") {
  const std::byte* first = nullptr;
  {
    const Storage s(123457, Device::cpu);
    first = s.data();
  }
  const Storage again(123457, Device::cpu);
  CHECK(again.data() == first);
  const Storage other(123457, Device::cpu);
  CHECK(other.data() != first);
}

TEST_CASE("live bytes and their peak are counted", "[storage]") {
  const std::size_t before = allocated_bytes();
  reset_peak_allocated_bytes();
  {
    const Storage a(1 << 20, Device::cpu);
    CHECK(allocated_bytes() >= before + (1 << 20));
    CHECK(allocated_bytes() <= before + (1 << 20) * 9 / 8);
    { const Storage b(1 << 22, Device::cpu); }
    CHECK(allocated_bytes() <= before + (1 << 20) * 9 / 8);
  }
  CHECK(allocated_bytes() == before);
  CHECK(peak_allocated_bytes() >= before + (1 << 20) + (1 << 22));
  reset_peak_allocated_bytes();
  CHECK(peak_allocated_bytes() == before);
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
TEST_CASE("cached memory can be given back", "[storage]") {
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  const auto in_use = [] { return mallinfo2().hblkhd + mallinfo2().uordblks; };
  release_cached_memory();
  const std::size_t before = in_use();
  { const Storage s(kBytes, Device::cpu); }
  CHECK(in_use() >= before + kBytes);
  release_cached_memory();
  CHECK(in_use() < before + kBytes);
}
#endif

TEST_CASE("impossible requests are errors", "[storage]") {
#if !defined(__SANITIZE_ADDRESS__)  // which ends the program instead of returning null
  CHECK_THROWS_WITH(Storage(std::size_t{1} << 60, Device::cpu), ContainsSubstring("out of memory"));
#endif
  CHECK_THROWS_WITH(Storage(16, Device::cuda), ContainsSubstring("no cuda device"));
  CHECK_NOTHROW(Storage(16, Device::cpu));  // and the lock is free again
}

TEST_CASE("guard bands catch a write on either side of a live block", "[storage]") {
  const GuardBands on;
  const std::ptrdiff_t at = GENERATE(-1, -200, 0, 200);
  const Storage s(100, Device::cpu);
  CHECK_NOTHROW(check_guards());
  std::byte& planted = s.data()[at < 0 ? at : 100 + at];
  const std::byte old = planted;
  planted = std::byte{0};
  CHECK_THROWS_WITH(check_guards(), ContainsSubstring("a block of 100 bytes was written outside its bounds"));
  planted = old;
  CHECK_NOTHROW(check_guards());
}

TEST_CASE("guard bands remember a fault of a block that is gone", "[storage]") {
  const GuardBands on;
  {
    const Storage s(100, Device::cpu);
    s.data()[100] = std::byte{0};
  }
  CHECK_THROWS_WITH(check_guards(), ContainsSubstring("freed block"));
  CHECK_NOTHROW(check_guards());  // told once
}

TEST_CASE("in guarded mode new memory is NaN in every floating dtype", "[storage]") {
  { const Tensor dirty = Tensor::full({33}, 1.0); }  // the cache may hand this block out again
  const GuardBands on;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    for (const double x : Tensor::empty({33}, dtype).to_vector()) CHECK(std::isnan(x));
}

TEST_CASE("a storage counts its changes", "[storage]") {
  Storage s(8, Device::cpu);
  CHECK(s.version() == 0);
  s.bump_version();
  CHECK(s.version() == 1);
}
