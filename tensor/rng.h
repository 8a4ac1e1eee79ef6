// Philox4x32-10: random numbers as a pure function of (key, counter), the same bits on every device.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <cmath>
#include <cstdint>

#include "tensor/host_device.h"

namespace wedge {

struct Philox4 {
  std::uint32_t v[4];
};

// Ten rounds over a 128-bit counter with a 64-bit key. Four independent uniform 32-bit words.
WEDGE_HOST_DEVICE inline Philox4 philox(std::uint64_t key, std::uint32_t c0, std::uint32_t c1,
                                        std::uint32_t c2, std::uint32_t c3) {
  auto k0 = static_cast<std::uint32_t>(key);
  auto k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c2;
    const auto next0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const auto next2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = next0;
    c2 = next2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// What a stream of random numbers is for; the last word of its counter, so that streams never meet.
enum class RandomStream : std::uint32_t { init = 1, shuffle = 2, corpus = 3, user = 4, sample = 5 };

// A sequential generator over one Philox stream: (seed, stream, substream) gives the same numbers everywhere.
class Rng {
 public:
  explicit Rng(std::uint64_t seed, RandomStream stream = RandomStream::user, std::uint32_t substream = 0)
      : seed_(seed), stream_(static_cast<std::uint32_t>(stream)), substream_(substream) {}

  std::uint32_t next_u32() {
    if (used_ == 4) {
      block_ = philox(seed_, static_cast<std::uint32_t>(index_), static_cast<std::uint32_t>(index_ >> 32),
                      substream_, stream_);
      ++index_;
      used_ = 0;
    }
    return block_.v[used_++];
  }

  // Uniform in [0, 1), 53 bits.
  double uniform() {
    const std::uint64_t high = next_u32() >> 5, low = next_u32() >> 6;
    return static_cast<double>((high << 26) | low) * 0x1p-53;
  }

  // Uniform integer in [0, n), n > 0, without modulo bias (rejection).
  std::uint64_t below(std::uint64_t n) {
    const std::uint64_t reject_under = (0 - n) % n;
    for (;;) {
      const std::uint64_t high = next_u32(), low = next_u32();
      const std::uint64_t x = (high << 32) | low;
      if (x >= reject_under) return x % n;
    }
  }

  // Standard normal (Box-Muller, both values used).
  double normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    const double angle = 6.283185307179586476925 * uniform();
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
  }

 private:
  std::uint64_t seed_;
  std::uint32_t stream_;
  std::uint32_t substream_;
  std::uint64_t index_ = 0;
  Philox4 block_{};
  int used_ = 4;
  bool has_spare_ = false;
  double spare_ = 0;
};

}  // namespace wedge
