// Intel's matrix unit in C++, so that kernels/cpu/amx_tile.cpp can be tested on any processor: the compiler
// includes this first, and its own words for the unit's instructions give way to these.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#endif

#define WEDGE_AMX_EMULATOR
#define _tile_zero(t) wedge::amx_emulator::zero(t)
#define _tile_loadd(t, base, stride) wedge::amx_emulator::load(t, base, stride)
#define _tile_stored(t, base, stride) wedge::amx_emulator::store(t, base, stride)
#define _tile_dpbf16ps(c, a, b) wedge::amx_emulator::multiply(c, a, b)

namespace wedge::amx_emulator {

inline constexpr int kSide = 16;
inline thread_local std::uint32_t tiles[8][kSide][kSide];

inline void zero(int t) {
  std::memset(tiles[t], 0, sizeof tiles[t]);
}
inline void load(int t, const void* base, std::int64_t stride) {
  for (int row = 0; row < kSide; ++row)
    std::memcpy(tiles[t][row], static_cast<const char*>(base) + row * stride, sizeof tiles[t][row]);
}
inline void store(int t, void* base, std::int64_t stride) {
  for (int row = 0; row < kSide; ++row)
    std::memcpy(static_cast<char*>(base) + row * stride, tiles[t][row], sizeof tiles[t][row]);
}

// The bfloat16 in the lower or upper half of a word; denormal ones are zero, as to the unit.
inline float half(std::uint32_t word, bool upper) {
  std::uint32_t bits = upper ? word & 0xffff0000u : word << 16;
  if ((bits & 0x7f800000u) == 0) bits &= 0x80000000u;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// c [16][16] += a [16][32] b [32][16]: of b, row k of words holds steps 2 k and 2 k + 1. Sums over even and
// odd steps are made apart, of fused multiply-adds, then added up, then added to c: the unit's own bits.
inline void multiply(int c, int a, int b) {
  for (int i = 0; i < kSide; ++i)
    for (int j = 0; j < kSide; ++j) {
      float even = 0, odd = 0, sum;
      for (int k = 0; k < kSide; ++k) {
        even = std::fma(half(tiles[a][i][k], false), half(tiles[b][k][j], false), even);
        odd = std::fma(half(tiles[a][i][k], true), half(tiles[b][k][j], true), odd);
      }
      std::memcpy(&sum, &tiles[c][i][j], sizeof sum);
      sum += even + odd;
      std::memcpy(&tiles[c][i][j], &sum, sizeof sum);
    }
}

}  // namespace wedge::amx_emulator
