// Products of float32 on a matrix unit that multiplies bfloat16 only, Intel's AMX: it does 16 times as many
// multiplications a cycle as a core's vectors. Each factor is split into three numbers of bfloat16, which
// together hold all of its 24 bits,
//   x = hi + mid + lo,   |mid| <= 2^-8 |x|,   |lo| <= 2^-17 |x|,
// and of the nine products of parts six are added up in float32, in the order that loads fewest registers.
// The other three come to 2^-24 |x y| at most, half a unit in the last place of a rounded product. (Henry,
// Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
// Computations", ARITH 2019.) Where factors may be rounded, one number of bfloat16 is all that is kept of each.
#pragma once

#include <cstdint>

#include "kernels/cpu/tile.h"
#include "tensor/dtype.h"
#include "tensor/round_up.h"

namespace wedge::cpu {

// Whether the processor has the unit and the system lets this process use it; not with WEDGE_AMX=0 in the
// environment. Asked once; where the answer is yes, the process's signal stacks must hold 12 KB from then on.
bool has_amx();

// A kind of tile, like VectorTile in tile.h, of factors in so many parts.
// Three: panels with infinities, NaN or numbers that round to infinity are kept and multiplied as floats;
// products within 2^-7 of the largest number may come out infinite; factors and products below 2^-102 keep
// fewer bits, as parts of them are denormal and so zero.
// One: factors are rounded to nearest, ties to even, and to zero where they are denormal.
template <int kParts>
struct AmxTile {
  static_assert(kParts == 1 || kParts == 3);
  using Value = float;
  using Packed = std::uint32_t;  // one part of step k, and above it of step k + 16
  static constexpr int kRows = 32, kColumns = 32;
  static constexpr std::int64_t kDepthUnit = 32, kDepth = kParts == 3 ? 512 : 1024, kBlockPanels = 8;
  static constexpr std::int64_t kElementBytes = 2 * kParts;
  static constexpr std::int64_t kSharedBytes = kParts == 3 ? 3 << 18 : 1 << 20, kOwnBytes = kSharedBytes;
  static constexpr bool kCanStream = true;

  // Of a panel, for kDepthUnit steps: its parts, each two registers of 16 x 16 words.
  static constexpr std::int64_t kPart = 512, kUnit = kParts * kPart;
  static constexpr std::int64_t units(std::int64_t depth) { return ceil_div(depth, kDepthUnit); }
  // A line of cache more than it holds, where a panel of three parts has a flag.
  static constexpr std::int64_t row_stride(std::int64_t depth) { return units(depth) * kUnit + 16; }
  static constexpr std::int64_t column_stride(std::int64_t depth) { return row_stride(depth); }

  // Whether a product is faster than with vectors: a multiplication takes less than half as long here, or an
  // eighth, a number that is split as long as 16 there, and edges as long as what they are padded to.
  static constexpr bool pays(std::int64_t M, std::int64_t N, std::int64_t K) {
    static_assert(kRows == kDepthUnit && kColumns == kDepthUnit);
    constexpr auto padded = [](std::int64_t n) { return round_up(n, kDepthUnit); };
    return padded(M) * padded(N) * padded(K) / (kParts == 3 ? 2 : 8) + 16 * (M + N) * padded(K) <= M * N * K;
  }

  // As pack_panels(); one part also of numbers that are bfloat16 already.
  template <class In>
  static void pack_rows(const In* in, std::int64_t ld, bool along_depth, std::int64_t depth,
                        std::int64_t count, Packed* out);
  template <class In>
  static void pack_columns(const In* in, std::int64_t ld, bool along_depth, std::int64_t depth,
                           std::int64_t count, Packed* out);
  // As multiply_tile(); of one part, C may be BFloat16 with beta 0: sums rounded to nearest, ties to even.
  template <class Out>
  static void multiply(std::int64_t depth, const Packed* a, const Packed* b, float alpha, float beta,
                       const TileOfC<Out>& c);

  // As VectorTile's.
  class Session {
   public:
    Session();
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
  };
};

}  // namespace wedge::cpu
