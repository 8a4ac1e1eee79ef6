// Causal attention on tensor cores, for heads of 32, 64 or 128 columns: what its kernels move and multiply.
//
// Layout: a block of 4 warps owns 64 rows of one head, queries or keys, 16 a warp, and streams the rows of
// the other side past them. Both are bf16, rounded on the way where tensors are float32; sums, statistics of
// rows and everything between two products are float32. A warp's own rows are A fragments, read straight from
// global memory. Streamed rows lie in shared memory, two tiles of them: while one is used, the next is on its
// way through registers. The scores that a product leaves in a warp's registers are already laid out as the
// A fragments of the next one, so no weight passes through memory.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/causal_attention.h"
#include "kernels/cuda/causal_attention.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/mma.cuh"

namespace wedge::cu {

// These launch the op on tensor cores if heads have such a width and the tensors start at 16-byte boundaries;
// false, and nothing is done, if not.
template <class T>
bool causal_attention_forward_mma(const Exec& exec, const CausalAttentionForward<T>& args);
template <class T>
bool causal_attention_backward_mma(const Exec& exec, const CausalAttentionBackward<T>& args);
// How many partial sums of dqkv's columns that can make; 0: none.
template <class T>
std::int64_t causal_attention_backward_pieces_mma(const CausalAttentionBackward<T>& args);

}  // namespace wedge::cu

namespace wedge::cu::attention_mma {

using attention::Sizes;
using attention::Work;

inline constexpr int kThreads = 128;
inline constexpr int kOwn = 64;    // rows of a block
inline constexpr int kChunk = 16;  // rows of a warp; streamed rows of one step of a product

template <int kWidth>
struct Tile {
  // Blocks of a multiprocessor that registers must leave room for.
  static constexpr int kBlocks = kWidth <= 64 ? 3 : 2;
  static constexpr int kStreamed = kWidth <= 64 ? 64 : 32;  // rows of a tile in shared memory
  static constexpr int kChunks = kStreamed / kChunk;
  static constexpr int kSteps = kWidth / 16;  // of a product over the columns of a head
  static constexpr int kPitch = kWidth + 8;   // of a row in shared memory: ldmatrix meets no bank twice
  static constexpr int kElements = kStreamed * kPitch;
};

// Row `tile` of tiles of the head that is number `at`.
__device__ inline Work work_at(const Sizes& n, std::int64_t tile, std::int64_t at) {
  return {tile * kOwn, at / n.H, at % n.H};
}

// Where a head of a sequence starts: q, with k and v D and 2 D elements further; o and do; statistics.
// Within a sequence, elements are counted in int.
struct Head {
  int L, D, stride;
  std::int64_t qkv, o, stats;

  __device__ Head(const Sizes& n, const Work& work)
      : L(static_cast<int>(n.L)),
        D(static_cast<int>(n.D)),
        stride(3 * D),
        qkv(work.batch * n.L * 3 * n.D + work.head * n.width),
        o(work.batch * n.L * n.D + work.head * n.width),
        stats((work.batch * n.H + work.head) * n.L) {}
};

// This thread's place: of D and A fragments it has rows lane_row() and lane_row() + 8 and, of every 8
// columns, those from lane_column() on. The warp's own rows start at warp_row() of the block's.
__device__ inline int lane() {
  return static_cast<int>(threadIdx.x % kWarp);
}
__device__ inline int lane_row() {
  return static_cast<int>(threadIdx.x % kWarp / 4);
}
__device__ inline int lane_column() {
  return static_cast<int>(threadIdx.x % 4) * 2;
}
__device__ inline int warp_row() {
  return static_cast<int>(threadIdx.x / kWarp) * kChunk;
}

// Two neighbours of a row, of which a fragment makes one word.
struct Pair {
  float low, high;
};
__device__ inline Pair unpack_bf16(std::uint32_t pair) {
  return {__builtin_bit_cast(float, pair << 16), __builtin_bit_cast(float, pair & 0xffff0000u)};
}
__device__ inline Pair load_pair(const float* x) {
  const float2 pair = *reinterpret_cast<const float2*>(x);
  return {pair.x, pair.y};
}
__device__ inline Pair load_pair(const BFloat16* x) {
  return unpack_bf16(*reinterpret_cast<const std::uint32_t*>(x));
}
__device__ inline std::uint32_t load_rounded_pair(const float* x) {
  const Pair pair = load_pair(x);
  return pack_bf16(pair.low, pair.high);
}
__device__ inline std::uint32_t load_rounded_pair(const BFloat16* x) {
  return *reinterpret_cast<const std::uint32_t*>(x);
}
__device__ inline void store_pair(float* y, Pair pair) {
  *reinterpret_cast<float2*>(y) = {pair.low, pair.high};
}
__device__ inline void store_pair(BFloat16* y, Pair pair) {
  *reinterpret_cast<std::uint32_t*>(y) = pack_bf16(pair.low, pair.high);
}

// A warp's own rows as A fragments, in registers, or in shared memory where sums leave no room for them:
// then a thread's words lie where only this thread reads them, so no barrier is needed.
template <int kWidth, bool kInRegisters>
class OwnRows {
 public:
  static constexpr int kSteps = Tile<kWidth>::kSteps;
  static constexpr int kSharedWords = kInRegisters ? 0 : kSteps * kThreads;  // of 16 bytes

  __device__ explicit OwnRows(uint4* shared) : shared_(shared + threadIdx.x) {}

  // x: the first of them. Rows beyond `left` are zeros.
  template <class T>
  __device__ void load(const T* x, int stride, int left) {
    x += lane_row() * stride + lane_column();
    WEDGE_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      std::uint32_t words[4];
      WEDGE_UNROLL
      for (int i = 0; i < 4; ++i)
        words[i] = lane_row() + i % 2 * 8 < left
                       ? load_rounded_pair(x + i % 2 * 8 * stride + step * 16 + i / 2 * 8)
                       : 0;
      if constexpr (kInRegisters) {
        WEDGE_UNROLL
        for (int i = 0; i < 4; ++i) words_[step][i] = words[i];
      } else {
        shared_[step * kThreads] = {words[0], words[1], words[2], words[3]};
      }
    }
  }
  __device__ void fragment(int step, std::uint32_t (&a)[4]) const {
    if constexpr (kInRegisters) {
      WEDGE_UNROLL
      for (int i = 0; i < 4; ++i) a[i] = words_[step][i];
    } else {
      const uint4 words = shared_[step * kThreads];
      a[0] = words.x;
      a[1] = words.y;
      a[2] = words.z;
      a[3] = words.w;
    }
  }

 private:
  std::uint32_t words_[kInRegisters ? kSteps : 1][4];
  uint4* shared_;
};

// The same of rows that lie in shared memory, row-major: copies in registers, or read again for every use.
template <int kWidth, bool kInRegisters>
class ResidentRows {
 public:
  static constexpr int kSteps = Tile<kWidth>::kSteps;

  __device__ explicit ResidentRows(const BFloat16* rows)
      : row_(rows + lane() % 16 * Tile<kWidth>::kPitch + lane() / 16 * 8) {
    if constexpr (kInRegisters) {
      WEDGE_UNROLL
      for (int step = 0; step < kSteps; ++step) ldmatrix_x4(words_[step], row_ + step * 16);
    }
  }
  __device__ void fragment(int step, std::uint32_t (&a)[4]) const {
    if constexpr (kInRegisters) {
      WEDGE_UNROLL
      for (int i = 0; i < 4; ++i) a[i] = words_[step][i];
    } else {
      ldmatrix_x4(a, row_ + step * 16);
    }
  }

 private:
  const BFloat16* row_;
  std::uint32_t words_[kInRegisters ? kSteps : 1][4];
};

// 8 neighbours of a row on their way from global memory.
template <class T>
struct Eight;
template <>
struct Eight<float> {
  float4 low, high;

  __device__ static Eight load(const float* x) {
    const auto* const from = reinterpret_cast<const float4*>(x);
    return {from[0], from[1]};
  }
  __device__ uint4 rounded() const {
    return {pack_bf16(low.x, low.y), pack_bf16(low.z, low.w), pack_bf16(high.x, high.y),
            pack_bf16(high.z, high.w)};
  }
  // Σ of products with 8 rounded ones
  __device__ float dot(const uint4& other) const {
    const Pair a = unpack_bf16(other.x), b = unpack_bf16(other.y), c = unpack_bf16(other.z),
               d = unpack_bf16(other.w);
    return low.x * a.low + low.y * a.high + low.z * b.low + low.w * b.high + high.x * c.low +
           high.y * c.high + high.z * d.low + high.w * d.high;
  }
};
template <>
struct Eight<BFloat16> {
  uint4 all;

  __device__ static Eight load(const BFloat16* x) { return {*reinterpret_cast<const uint4*>(x)}; }
  __device__ uint4 rounded() const { return all; }
  __device__ float dot(const uint4& other) const {
    const Pair a = unpack_bf16(all.x), b = unpack_bf16(all.y), c = unpack_bf16(all.z), d = unpack_bf16(all.w);
    return Eight<float>{{a.low, a.high, b.low, b.high}, {c.low, c.high, d.low, d.high}}.dot(other);
  }
};

// kRows rows on their way from global to shared memory, in the registers of a block of kBlock threads.
template <class T, int kWidth, int kRows, int kBlock = kThreads>
struct RowsInFlight {
  static constexpr int kAcross = kWidth / 8;            // threads of a row, all in one warp
  static constexpr int kDown = kBlock / kAcross;        // rows between two of a thread
  static constexpr int kEach = ceil_div(kRows, kDown);  // of a thread

  Eight<T> x[kEach];

  // This thread's columns, and its row number k; whole warps have one more or less.
  __device__ static int column() { return static_cast<int>(threadIdx.x % kAcross) * 8; }
  __device__ static int row(int k) { return static_cast<int>(threadIdx.x / kAcross) + k * kDown; }
  __device__ static bool mine(int k) { return (k + 1) * kDown <= kRows || row(k) < kRows; }

  // Where this thread's part of rows that start at x is.
  __device__ static const T* start(const T* x, int stride) { return x + row(0) * stride + column(); }

  // From there; rows beyond `left` are zeros.
  __device__ void load(const T* from, int stride, int left) {
    WEDGE_UNROLL
    for (int k = 0; k < kEach; ++k)
      x[k] = mine(k) && row(k) < left ? Eight<T>::load(from + k * kDown * stride) : Eight<T>{};
  }
  __device__ void store(BFloat16* tile) const {
    WEDGE_UNROLL
    for (int k = 0; k < kEach; ++k)
      if (mine(k))
        *reinterpret_cast<uint4*>(tile + row(k) * Tile<kWidth>::kPitch + column()) = x[k].rounded();
  }
};

// Rows that have arrived in shared memory: of two bf16 operands and float32 statistics of them.
template <int kWidth>
struct Arrived {
  static constexpr int kOperandsOfRow = 2 * 2 * Tile<kWidth>::kPitch, kBytesOfRow = kOperandsOfRow + 2 * 4;

  BFloat16 *x, *y;
  float *lse, *delta;

  __device__ Arrived(unsigned char* shared, int rows)
      : x(reinterpret_cast<BFloat16*>(shared)),
        y(x + rows * Tile<kWidth>::kPitch),
        lse(reinterpret_cast<float*>(y + rows * Tile<kWidth>::kPitch)),
        delta(lse + rows) {}
};

// B fragments of 16 streamed rows at `rows`: b[0..1] and b[2..3] are those of two products.
// For products with their transpose, over columns 16 step, ...: the first 8 rows, then the other 8.
template <int kWidth>
__device__ void load_rows_transposed(const BFloat16* rows, int step, std::uint32_t (&b)[4]) {
  ldmatrix_x4(b,
              rows + (lane() / 16 * 8 + lane() % 8) * Tile<kWidth>::kPitch + step * 16 + lane() / 8 % 2 * 8);
}
// For products over these rows: columns 16 step, ..., then the next 8.
template <int kWidth>
__device__ void load_rows(const BFloat16* rows, int step, std::uint32_t (&b)[4]) {
  ldmatrix_x4_trans(b, rows + lane() % 16 * Tile<kWidth>::kPitch + step * 16 + lane() / 16 * 8);
}

// The A fragment of 16 columns whose two halves are the D fragments `low` and `high`.
__device__ inline void pack_fragment(const float (&low)[4], const float (&high)[4], std::uint32_t (&a)[4]) {
  a[0] = pack_bf16(low[0], low[1]);
  a[1] = pack_bf16(low[2], low[3]);
  a[2] = pack_bf16(high[0], high[1]);
  a[3] = pack_bf16(high[2], high[3]);
}

// The sum (maximum) over the 4 threads of a row of a D fragment.
__device__ inline float sum_across(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}
__device__ inline float max_across(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}

// Where a result goes, and where its bfloat16 copy, if that is not null.
template <class T>
struct Result {
  T* y;
  BFloat16* rounded;
};

// The 16 rows from element `first` on (+)= sums · factor[h], for rows lane_row() + 8 h.
template <int kWidth, class T>
__device__ void store_own(const float (&sums)[kWidth / 8][4], const float (&factor)[2], const Result<T>& to,
                          std::int64_t first, int stride, int left, bool add) {
  WEDGE_UNROLL
  for (int h = 0; h < 2; ++h) {
    if (lane_row() + 8 * h >= left) continue;
    const std::int64_t at = first + (lane_row() + 8 * h) * stride + lane_column();
    WEDGE_UNROLL
    for (int c = 0; c < kWidth / 8; ++c) {
      Pair pair{sums[c][2 * h] * factor[h], sums[c][2 * h + 1] * factor[h]};
      if (add) {
        const Pair before = load_pair(to.y + at + 8 * c);
        pair.low += before.low;
        pair.high += before.high;
      }
      store_pair(to.y + at + 8 * c, pair);
      if (to.rounded != nullptr) store_pair(to.rounded + at + 8 * c, pair);
    }
  }
}

// to[column] += the warp's sums · factor over its rows below `left`; `to` is the warp's alone. In three
// exchanges each lane gives away half of its columns and adds what it gets to the other half.
template <int kWidth>
__device__ void sum_own(const float (&sums)[kWidth / 8][4], float factor, int left, float* to) {
  constexpr int kColumns = kWidth / 4;  // of a lane: 8 c + lane_column() + e at 2 c + e
  float x[kColumns];
  const bool has_first = lane_row() < left, has_second = lane_row() + 8 < left;
  WEDGE_UNROLL
  for (int i = 0; i < kColumns; ++i)
    x[i] = (has_first ? sums[i / 2][i % 2] : 0.0f) + (has_second ? sums[i / 2][2 + i % 2] : 0.0f);
  int first = 0;
  WEDGE_UNROLL
  for (int bit = 0; bit < 3; ++bit) {
    const int half = kColumns >> (bit + 1), offset = 16 >> bit;
    const bool upper = lane() & offset;
    first += upper ? half : 0;
    WEDGE_UNROLL
    for (int i = 0; i < kColumns / 2; ++i) {
      if (i >= half) continue;
      const float given = upper ? x[i] : x[i + half], kept = upper ? x[i + half] : x[i];
      x[i] = kept + __shfl_xor_sync(kAllLanes, given, offset);
    }
  }
  WEDGE_UNROLL
  for (int i = 0; i < kColumns / 8; ++i)
    to[(first + i) / 2 * 8 + lane_column() + (first + i) % 2] += factor * x[i];
}

// Whether tensors can be read 16 bytes at a time and counted in int.
template <class Args, class... Tensors>
bool fits(const Args& args, const Tensors*... tensors) {
  return all_aligned(16, tensors...) && args.L * args.D < INT32_MAX / 4;
}

// Calls body(kWidth as a type) where there are such tiles; false where not.
template <class Body>
bool with_mma_width(std::int64_t width, const Body& body) {
  if (width == 32)
    body(std::integral_constant<int, 32>());
  else if (width == 64)
    body(std::integral_constant<int, 64>());
  else if (width == 128)
    body(std::integral_constant<int, 128>());
  else
    return false;
  return true;
}

template <class Args>
Sizes sizes_of(const Args& args) {
  const auto width = static_cast<int>(args.D / args.H);
  return {args.L,
          args.H,
          args.D,
          width,
          static_cast<int>(blocks_for(args.L, kOwn)),
          1 / sqrtf(static_cast<float>(width))};
}

}  // namespace wedge::cu::attention_mma
