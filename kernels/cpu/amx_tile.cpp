#include "kernels/cpu/amx_tile.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <utility>

#include "kernels/cpu/tile.h"

#if defined(__x86_64__) && defined(__linux__) && !defined(WEDGE_AMX_EMULATOR)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>
#define WEDGE_AMX_TARGET [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16")]]
#define WEDGE_HAS_AMX
#elif defined(WEDGE_AMX_EMULATOR)  // for the tests: _tile_... in C++
#define WEDGE_AMX_TARGET
#define WEDGE_HAS_AMX
#endif

namespace wedge::cpu {

#if defined(WEDGE_HAS_AMX)

namespace {

constexpr int kSide = 16;  // of a register: rows, and words of a row

typedef float Floats __attribute__((vector_size(64)));
typedef std::uint32_t Words __attribute__((vector_size(64)));
typedef std::uint16_t Halves __attribute__((vector_size(32)));
template <class V>
struct __attribute__((packed, may_alias)) Anywhere {
  V v;
};

#if defined(WEDGE_AMX_EMULATOR)
bool ask() {
  return true;
}
template <class V>
void stream(void* at, const V& x) {
  *static_cast<V*>(at) = x;
}
void configure() {}
void release() {}
#else
bool ask() {
  const char* const wanted = std::getenv("WEDGE_AMX");
  if (wanted != nullptr && std::string_view(wanted) == "0") return false;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return false;
  constexpr unsigned kTile = 1u << 24, kBf16 = 1u << 22;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & kTile) || !(d & kBf16)) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
template <class V>
WEDGE_AMX_TARGET inline void stream(void* at, const V& x) {
  _mm512_stream_si512(static_cast<__m512i*>(at), (__m512i)x);
}
// Not on the stack: to GCC, _tile_loadconfig reads eight bytes.
struct alignas(64) Configuration {
  std::uint8_t palette = 1, start = 0, reserved[14] = {};
  std::uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constinit const Configuration configuration;
WEDGE_AMX_TARGET void configure() {
  _tile_loadconfig(&configuration);
}
WEDGE_AMX_TARGET void release() {
  _tile_release();
  _mm_sfence();  // what was streamed
}
#endif

// x rounded to bfloat16, halves away from zero; the rest of x is exact.
WEDGE_AMX_TARGET [[gnu::always_inline]] inline Floats rounded(const Floats& x) {
  return (Floats)(((Words)x + 0x8000u) & 0xffff0000u);
}
// The same, halves to even; NaN stays NaN.
WEDGE_AMX_TARGET [[gnu::always_inline]] inline Floats rounded_to_even(const Floats& x) {
  const Words bits = (Words)x, even = bits + (0x7fffu + (bits >> 16 & 1u));
  return (Floats)(x == x ? even : bits | 0x400000u);
}
WEDGE_AMX_TARGET [[gnu::always_inline]] inline Words pair(const Floats& low, const Floats& high) {
  return (Words)low >> 16 | ((Words)high & 0xffff0000u);
}

// The 16 numbers at an address, as they are; or rounded to bfloat16, each in the lower half of a word.
// Unchecked as split() is: GCC 12 breaks down where it puts what sanitizers check into what they don't.
WEDGE_AMX_TARGET [[gnu::always_inline]] WEDGE_UNCHECKED inline Floats load(const float* at) {
  return reinterpret_cast<const Anywhere<Floats>*>(at)->v;
}
WEDGE_AMX_TARGET [[gnu::always_inline]] WEDGE_UNCHECKED inline Words load_rounded(const float* at) {
  return (Words)rounded_to_even(load(at)) >> 16;
}
WEDGE_AMX_TARGET [[gnu::always_inline]] WEDGE_UNCHECKED inline Words load_rounded(const BFloat16* at) {
  return __builtin_convertvector(reinterpret_cast<const Anywhere<Halves>*>(at)->v, Words);
}

// One register of each part: 16 rows of A, or 16 columns of B, for 32 steps, which lie side by side in memory
// or, if not AlongDepth, below each other. Row i of the register comes from row i of memory, or is column i
// of it with Transposed. NaN is left in `rest` where a number is not finite, or next to that.
template <int kParts, bool AlongDepth, bool Transposed, class In>
WEDGE_AMX_TARGET WEDGE_UNCHECKED void split(const In* in, std::int64_t ld, std::uint32_t* out, Floats& rest) {
  const std::int64_t second = AlongDepth ? kSide : kSide * ld;  // from the first 16 steps to the others
  if constexpr (AlongDepth) {  // the next steps, and the next panel, which the processor does not foresee
    constexpr std::int64_t line = 64 / sizeof(In);
#pragma GCC unroll 16
    for (int i = 0; i < kSide; ++i)
      for (const std::int64_t ahead : {std::int64_t{2 * kSide}, 2 * kSide * ld})
        for (std::int64_t at = 0; at < 2 * kSide; at += line) __builtin_prefetch(in + i * ld + ahead + at);
  }
  if constexpr (kParts == 1) {
    Words words[kSide];
#pragma GCC unroll 16
    for (int i = 0; i < kSide; ++i)
      words[i] = load_rounded(in + i * ld) | load_rounded(in + second + i * ld) << 16;
    if constexpr (Transposed) swap_blocks<kSide / 2>(words, std::make_integer_sequence<int, kSide>());
#pragma GCC unroll 16
    for (int i = 0; i < kSide; ++i) *reinterpret_cast<Words*>(out + i * kSide) = words[i];
  } else {
    Floats first[kSide], then[kSide];
#pragma GCC unroll 16
    for (int i = 0; i < kSide; ++i) first[i] = load(in + i * ld);
    if constexpr (Transposed) swap_blocks<kSide / 2>(first, std::make_integer_sequence<int, kSide>());
#pragma GCC unroll 16
    for (int i = 0; i < kSide; ++i) then[i] = load(in + second + i * ld);
    if constexpr (Transposed) swap_blocks<kSide / 2>(then, std::make_integer_sequence<int, kSide>());
#pragma GCC unroll 16
    for (int i = 0; i < kSide; ++i) {
      const Floats hi0 = rounded(first[i]), hi1 = rounded(then[i]);
      const Floats rest0 = first[i] - hi0, rest1 = then[i] - hi1;
      const Floats mid0 = rounded(rest0), mid1 = rounded(rest1);
      const Floats lo0 = rest0 - mid0, lo1 = rest1 - mid1;
      Words* const to = reinterpret_cast<Words*>(out + i * kSide);
      constexpr std::int64_t part = AmxTile<kParts>::kPart / kSide;
      to[0] = pair(hi0, hi1);
      to[part] = pair(mid0, mid1);
      to[2 * part] = pair(lo0, lo1);
      rest += lo0 + lo1;
    }
  }
}

constexpr std::int64_t kSideOfPanel = 2 * kSide;
using Split = AmxTile<3>;
static_assert(Split::kRows == kSideOfPanel && Split::kColumns == kSideOfPanel);

// Behind a panel of so many units: not 0 where it is kept as floats, [step][32], because it has numbers for
// which hi + mid + lo does not hold.
std::uint32_t& kept_as_floats(std::uint32_t* panel, std::int64_t units) {
  return panel[units * Split::kUnit];
}
bool kept_as_floats(const std::uint32_t* panel, std::int64_t units) {
  return panel[units * Split::kUnit] != 0;
}
void keep_floats(const float* in, std::int64_t ld, bool along_depth, std::int64_t depth, std::int64_t count,
                 std::uint32_t* panel) {
  float* const to = reinterpret_cast<float*>(panel);
  for (std::int64_t k = 0; k < Split::units(depth) * Split::kDepthUnit; ++k)
    for (std::int64_t r = 0; r < kSideOfPanel; ++r)
      to[k * kSideOfPanel + r] = k < depth && r < count ? in[along_depth ? r * ld + k : k * ld + r] : 0.f;
}

// Of A, rows become rows of registers, and lie so in memory along depth; of B, steps do.
template <class Tile, bool IsRows, class In>
void pack(const In* in, std::int64_t ld, bool along_depth, std::int64_t depth, std::int64_t count,
          std::uint32_t* out) {
  constexpr std::int64_t unit = Tile::kDepthUnit;
  constexpr int kParts = Tile::kUnit / Tile::kPart;
  const std::int64_t units = Tile::units(depth), panels = ceil_div(count, kSideOfPanel);
  const std::int64_t stride = Tile::row_stride(depth);
  const auto split_one = along_depth ? split<kParts, true, !IsRows, In> : split<kParts, false, IsRows, In>;
  for (std::int64_t p = 0; p < panels && kParts > 1; ++p) kept_as_floats(out + p * stride, units) = 0;
  // In the order in which it lies in memory.
  for (std::int64_t t = 0; t < units * panels; ++t) {
    const std::int64_t p = along_depth ? t / units : t % panels, u = along_depth ? t % units : t / panels;
    std::uint32_t* const panel = out + p * stride;
    Floats rest = {};
    for (int half = 0; half < 2; ++half) {
      const std::int64_t r = p * kSideOfPanel + half * kSide, k = u * unit;
      const In* const from = in + (along_depth ? r * ld + k : k * ld + r);
      std::uint32_t* const to = panel + u * Tile::kUnit + half * kSide * kSide;
      const std::int64_t rows = std::min<std::int64_t>(count - r, kSide), steps = std::min(depth - k, unit);
      if (rows == kSide && steps == unit) {
        split_one(from, ld, to, rest);
        continue;
      }
      alignas(64) In copy[unit * kSide] = {};  // zeros at the edges
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < steps; ++j)
          copy[along_depth ? i * unit + j : j * kSide + i] = from[along_depth ? i * ld + j : j * ld + i];
      split_one(copy, along_depth ? unit : kSide, to, rest);
    }
    float sum = 0;
    for (int i = 0; i < kSide; ++i) sum += rest[i];
    if (kParts > 1 && std::isnan(sum)) kept_as_floats(panel, units) = 1;
  }
  if constexpr (kParts > 1)
    for (std::int64_t p = 0; p < panels; ++p)
      if (kept_as_floats(out + p * stride, units))
        keep_floats(in + p * kSideOfPanel * (along_depth ? ld : 1), ld, along_depth, depth,
                    count - p * kSideOfPanel, out + p * stride);
}

// Element r of step k of a panel.
template <bool IsRows>
float element(const std::uint32_t* panel, bool floats, std::int64_t k, std::int64_t r) {
  if (floats) return reinterpret_cast<const float*>(panel)[k * kSideOfPanel + r];
  const std::int64_t step = k % kSide, row = r % kSide;
  const std::uint32_t* const word = panel + k / Split::kDepthUnit * Split::kUnit + r / kSide * kSide * kSide +
                                    (IsRows ? row * kSide + step : step * kSide + row);
  float x = 0;
  for (int part = 2; part >= 0; --part) {
    const std::uint32_t two = word[part * Split::kPart];
    const std::uint32_t bits = k % Split::kDepthUnit < kSide ? two << 16 : two & 0xffff0000u;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    x += value;
  }
  return x;
}

// A tile's sums where one of the panels is kept as floats.
void multiply_floats(std::int64_t units, const std::uint32_t* a, const std::uint32_t* b, float* sums) {
  const bool a_floats = kept_as_floats(a, units), b_floats = kept_as_floats(b, units);
  std::fill(sums, sums + kSideOfPanel * kSideOfPanel, 0.f);
  for (std::int64_t k = 0; k < units * Split::kDepthUnit; ++k) {
    float right[kSideOfPanel];
    for (int j = 0; j < kSideOfPanel; ++j) right[j] = element<false>(b, b_floats, k, j);
    for (int i = 0; i < kSideOfPanel; ++i) {
      const float left = element<true>(a, a_floats, k, i);
      for (int j = 0; j < kSideOfPanel; ++j) sums[i * kSideOfPanel + j] += left * right[j];
    }
  }
}

// Two registers of A in 4 and 5, two of B in 6 and 7, their products' sums in 0 to 3.
WEDGE_AMX_TARGET inline void load_a(const std::uint32_t* at) {
  _tile_loadd(4, at, 4 * kSide);
  _tile_loadd(5, at + kSide * kSide, 4 * kSide);
}
WEDGE_AMX_TARGET inline void load_b(const std::uint32_t* at) {
  _tile_loadd(6, at, 4 * kSide);
  _tile_loadd(7, at + kSide * kSide, 4 * kSide);
}
WEDGE_AMX_TARGET inline void multiply_loaded() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}
// A unit of steps: six products of parts, or the one that there is.
template <int kParts>
WEDGE_AMX_TARGET inline void multiply_unit(const std::uint32_t* a, const std::uint32_t* b) {
  if constexpr (kParts == 1) {
    load_a(a);
    load_b(b);
    return multiply_loaded();
  }
  constexpr std::int64_t mid = Split::kPart, lo = 2 * Split::kPart;
  load_a(a + lo);
  load_b(b);
  multiply_loaded();
  load_a(a + mid);
  multiply_loaded();
  load_b(b + mid);
  multiply_loaded();
  load_a(a);
  multiply_loaded();
  load_b(b + lo);
  multiply_loaded();
  load_b(b);
  multiply_loaded();
}

// A whole tile, alpha sums + beta C.
WEDGE_AMX_TARGET inline void store(const float* sums, float alpha, float beta, const TileOfC<float>& c) {
  for (int i = 0; i < kSideOfPanel; ++i)
    for (int j = 0; j < kSideOfPanel; j += kSide) {
      float* const to = c.data + i * c.ld + j;
      Floats sum = alpha * *reinterpret_cast<const Floats*>(sums + i * kSideOfPanel + j);
      if (c.past_caches) {
        stream(to, sum);
        continue;
      }
      if (beta != 0) sum += beta * load(to);
      reinterpret_cast<Anywhere<Floats>*>(to)->v = sum;
    }
}
// The same, rounded: C is only written.
WEDGE_AMX_TARGET inline void store(const float* sums, float alpha, float, const TileOfC<BFloat16>& c) {
  typedef std::uint16_t Line __attribute__((vector_size(64)));
  for (int i = 0; i < kSideOfPanel; ++i) {
    const auto* const row = reinterpret_cast<const Floats*>(sums + i * kSideOfPanel);
    // Of each word the upper half, of the first 16 words and then of the others.
    const auto low = (Line)rounded_to_even(alpha * row[0]), high = (Line)rounded_to_even(alpha * row[1]);
    const Line line =
        __builtin_shufflevector(low, high, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35,
                                37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63);
    if (c.past_caches)
      stream(c.data + i * c.ld, line);
    else
      reinterpret_cast<Anywhere<Line>*>(c.data + i * c.ld)->v = line;
  }
}

// AmxTile::multiply(); clang takes no target from a member's definition.
template <class Tile, class Out>
WEDGE_AMX_TARGET WEDGE_UNCHECKED void multiply_panels(std::int64_t depth, const std::uint32_t* a,
                                                      const std::uint32_t* b, float alpha, float beta,
                                                      const TileOfC<Out>& c) {
  constexpr int kParts = Tile::kUnit / Tile::kPart;
  const std::int64_t units = Tile::units(depth);
  const bool whole = c.rows == Tile::kRows && c.columns == Tile::kColumns;
  alignas(64) float sums[Tile::kRows * Tile::kColumns];
  if (kParts == 1 || (!kept_as_floats(a, units) && !kept_as_floats(b, units))) {
    for (int i = 0; i < c.rows && !c.past_caches; ++i) {
      __builtin_prefetch(c.data + i * c.ld, 1);
      __builtin_prefetch(c.data + i * c.ld + c.columns - 1, 1);
    }
    asm volatile("" ::: "memory");  // GCC is not told that _tile_loadd reads memory
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (std::int64_t u = 0; u < units; ++u) {
      multiply_unit<kParts>(a + u * Tile::kUnit, b + u * Tile::kUnit);
      // Nobody reads this. A core that runs far ahead of its unit loses 900 cycles when it comes to store the
      // sums, one that meets a store every second unit less than 200 (bench/notes/matmul_cpu.md).
      if (u % 2 != 0) _tile_stored(0, sums, 4 * kSide);
    }
    float* to = sums;
    std::int64_t ld = Tile::kColumns;
    if constexpr (std::is_same_v<Out, float>)
      if (whole && alpha == 1 && beta == 0 && !c.past_caches) {
        to = c.data;
        ld = c.ld;
      }
    _tile_stored(0, to, 4 * ld);
    _tile_stored(1, to + kSide, 4 * ld);
    _tile_stored(2, to + kSide * ld, 4 * ld);
    _tile_stored(3, to + kSide * ld + kSide, 4 * ld);
    if (to != sums) return;
  } else {
    multiply_floats(units, a, b, sums);
  }
  if (whole) return store(sums, alpha, beta, c);
  for (int i = 0; i < c.rows; ++i)
    for (int j = 0; j < c.columns; ++j) {
      Out& at = c.data[i * c.ld + j];
      at = Out(alpha * sums[i * Tile::kColumns + j] + (beta == 0 ? 0.f : beta * static_cast<float>(at)));
    }
}

}  // namespace

bool has_amx() {
  static const bool has = ask();
  return has;
}

template <int kParts>
template <class In>
void AmxTile<kParts>::pack_rows(const In* in, std::int64_t ld, bool along_depth, std::int64_t depth,
                                std::int64_t count, Packed* out) {
  pack<AmxTile, true>(in, ld, along_depth, depth, count, out);
}
template <int kParts>
template <class In>
void AmxTile<kParts>::pack_columns(const In* in, std::int64_t ld, bool along_depth, std::int64_t depth,
                                   std::int64_t count, Packed* out) {
  pack<AmxTile, false>(in, ld, along_depth, depth, count, out);
}

template <int kParts>
template <class Out>
void AmxTile<kParts>::multiply(std::int64_t depth, const Packed* a, const Packed* b, float alpha, float beta,
                               const TileOfC<Out>& c) {
  multiply_panels<AmxTile>(depth, a, b, alpha, beta, c);
}

template <int kParts>
AmxTile<kParts>::Session::Session() {
  configure();
}
template <int kParts>
AmxTile<kParts>::Session::~Session() {
  release();
}

#else  // no such unit: nobody calls the rest

bool has_amx() {
  return false;
}
template <int kParts>
template <class In>
void AmxTile<kParts>::pack_rows(const In*, std::int64_t, bool, std::int64_t, std::int64_t, Packed*) {}
template <int kParts>
template <class In>
void AmxTile<kParts>::pack_columns(const In*, std::int64_t, bool, std::int64_t, std::int64_t, Packed*) {}
template <int kParts>
template <class Out>
void AmxTile<kParts>::multiply(std::int64_t, const Packed*, const Packed*, float, float,
                               const TileOfC<Out>&) {}
template <int kParts>
AmxTile<kParts>::Session::Session() {}
template <int kParts>
AmxTile<kParts>::Session::~Session() {}

#endif

#define WEDGE_PACKS(kParts, In)                                                                          \
  template void AmxTile<kParts>::pack_rows(const In*, std::int64_t, bool, std::int64_t, std::int64_t,    \
                                           Packed*);                                                     \
  template void AmxTile<kParts>::pack_columns(const In*, std::int64_t, bool, std::int64_t, std::int64_t, \
                                              Packed*);
#define WEDGE_MULTIPLIES(kParts, Out)                                                               \
  template void AmxTile<kParts>::multiply(std::int64_t, const Packed*, const Packed*, float, float, \
                                          const TileOfC<Out>&);
WEDGE_PACKS(3, float)
WEDGE_PACKS(1, float)
WEDGE_PACKS(1, BFloat16)
WEDGE_MULTIPLIES(3, float)
WEDGE_MULTIPLIES(1, float)
WEDGE_MULTIPLIES(1, BFloat16)
template class AmxTile<1>::Session;
template class AmxTile<3>::Session;

}  // namespace wedge::cpu
