// The numbers that orders are drawn from.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdlib>

namespace wedge::emulator {

// SplitMix64's finaliser over a counter: short, and good enough to draw orders from.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : seed(seed), state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // One of the bits of `mask`, which is not 0.
  unsigned bit(unsigned mask) {
    const auto by = static_cast<int>(next() >> 59);
    return (static_cast<unsigned>(std::countr_zero(std::rotr(mask, by)) + by)) % 32;
  }

  std::uint64_t seed;

 private:
  std::uint64_t state_;
};

inline std::uint64_t first_seed() {
  const char* const text = std::getenv("WEDGE_EMULATOR_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

}  // namespace wedge::emulator
