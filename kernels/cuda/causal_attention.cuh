// Tiles of causal attention, for the kernels of causal_attention.cu.
//
// Layout: a block of 128 threads owns a tile of rows of one head, queries or keys, and streams the rows of
// the other side past it, 32 at a time, all in shared memory as float32. Threads stand 16 × 8: thread (y, x)
// has the tile's own rows y, y + 16, ... against streamed rows x, x + 8, ..., and after that the same own
// rows against 1/8 of a head's columns. A row's 8 threads are in one warp, so weights pass from the first
// product to the second through shared memory without a barrier of the block.
#pragma once

#include <type_traits>

#include "kernels/cuda/common.cuh"

namespace wedge::cu::attention {

inline constexpr int kMaxWidth = 128;  // columns of a head
inline constexpr int kThreads = 128;
inline constexpr int kAcross = 8;                   // threads of an own row
inline constexpr int kDown = kThreads / kAcross;    // own rows between two of a thread
inline constexpr int kStreamed = 32;                // rows streamed at a time
inline constexpr int kEach = kStreamed / kAcross;   // of them a thread's
inline constexpr int kWeightPitch = kStreamed + 8;  // a warp's 4 rows of weights meet in no bank

// Tiles for heads of up to kWidth columns; narrower ones are filled up with zeros.
template <int kWidth>
struct Tile {
  static constexpr int kPitch = kWidth + 4;  // of a row in shared memory: 16-byte loads, no bank met twice
  static constexpr int kOwn = kWidth <= 64 ? 64 : 32;
  static constexpr int kRows = kOwn / kDown;            // of a thread
  static constexpr int kColumns = kWidth / kAcross;     // of a thread
  static constexpr int kVector = kWidth >= 32 ? 4 : 2;  // neighbours among these

  static constexpr int kOwnFloats = kOwn * kPitch, kStreamedFloats = kStreamed * kPitch;
  static constexpr int kWeightFloats = kOwn * kWeightPitch;
};

// This thread's place.
__device__ inline int own_row(int r) {
  return static_cast<int>(threadIdx.x) / kAcross + r * kDown;
}
__device__ inline int streamed_row(int c) {
  return static_cast<int>(threadIdx.x) % kAcross + c * kAcross;
}
template <int kWidth>
__device__ int column_of(int c) {
  constexpr int kVector = Tile<kWidth>::kVector;
  return static_cast<int>(threadIdx.x) % kAcross * kVector + c / kVector * kAcross * kVector + c % kVector;
}

struct Sizes {
  std::int64_t L, H, D;
  int width, tiles;  // columns of a head, tiles of own rows of a sequence
  float scale;
};

// What a block works on: rows `first`, first + 1, ... of one head of one sequence.
struct Work {
  std::int64_t first, batch, head;
};
// The same tile of all heads, then the next; `last_first` starts with the tile at the end, which sees most
// keys.
template <int kWidth>
__device__ Work work_of(const Sizes& n, bool last_first) {
  const std::int64_t heads = gridDim.x / n.tiles, at = blockIdx.x % heads;
  const std::int64_t tile = blockIdx.x / heads;
  return {(last_first ? n.tiles - 1 - tile : tile) * Tile<kWidth>::kOwn, at / n.H, at % n.H};
}

// to [kCount, pitch] = rows of x; zeros beyond `rows` and beyond the head's width. All threads must call.
template <int kWidth, int kCount, class T>
__device__ void load_rows(const T* x, std::int64_t stride, std::int64_t rows, int width, float* to) {
  for (int k = static_cast<int>(threadIdx.x); k < kCount * kWidth; k += kThreads) {
    const int row = k / kWidth, column = k % kWidth;
    to[row * Tile<kWidth>::kPitch + column] =
        row < rows && column < width ? to_float(x[row * stride + column]) : 0.0f;
  }
}

__device__ inline void load4(const float* from, float (&to)[4]) {
  const float4 x = *reinterpret_cast<const float4*>(from);
  to[0] = x.x;
  to[1] = x.y;
  to[2] = x.z;
  to[3] = x.w;
}

// dots[r][c] = own row r · streamed row c
template <int kWidth>
__device__ void dot_rows(const float* own, const float* streamed, float (&dots)[Tile<kWidth>::kRows][kEach]) {
  constexpr int kPitch = Tile<kWidth>::kPitch;
  for (int r = 0; r < Tile<kWidth>::kRows; ++r)
    for (int c = 0; c < kEach; ++c) dots[r][c] = 0;
  for (int column = 0; column < kWidth; column += 4) {
    float b[kEach][4];
    for (int c = 0; c < kEach; ++c) load4(streamed + streamed_row(c) * kPitch + column, b[c]);
    for (int r = 0; r < Tile<kWidth>::kRows; ++r) {
      float a[4];
      load4(own + own_row(r) * kPitch + column, a);
      for (int c = 0; c < kEach; ++c)
        for (int e = 0; e < 4; ++e) dots[r][c] += a[e] * b[c][e];
    }
  }
}

// sums[r][c] += Σ over the streamed rows of weight[own row r, streamed row] · x[streamed row, column c]
template <int kWidth>
__device__ void add_product(const float* weights, const float* x,
                            float (&sums)[Tile<kWidth>::kRows][Tile<kWidth>::kColumns]) {
  constexpr int kRows = Tile<kWidth>::kRows, kVector = Tile<kWidth>::kVector;
  for (int streamed = 0; streamed < kStreamed; streamed += 4) {
    float w[kRows][4];
    for (int r = 0; r < kRows; ++r) load4(weights + own_row(r) * kWeightPitch + streamed, w[r]);
    for (int e = 0; e < 4; ++e)
      for (int c = 0; c < Tile<kWidth>::kColumns; c += kVector) {
        const float* const from = x + (streamed + e) * Tile<kWidth>::kPitch + column_of<kWidth>(c);
        float values[4] = {};
        if constexpr (kVector == 4) {
          load4(from, values);
        } else {
          const float2 pair = *reinterpret_cast<const float2*>(from);
          values[0] = pair.x;
          values[1] = pair.y;
        }
        for (int r = 0; r < kRows; ++r)
          for (int v = 0; v < kVector; ++v) sums[r][c + v] += w[r][e] * values[v];
      }
  }
}

template <int kWidth>
__device__ void clear(float (&sums)[Tile<kWidth>::kRows][Tile<kWidth>::kColumns]) {
  for (int r = 0; r < Tile<kWidth>::kRows; ++r)
    for (int c = 0; c < Tile<kWidth>::kColumns; ++c) sums[r][c] = 0;
}

// y [own rows, width] (+)= sums · factor of the row
template <int kWidth, class T>
__device__ void store_rows(const float (&sums)[Tile<kWidth>::kRows][Tile<kWidth>::kColumns],
                           const float (&factor)[Tile<kWidth>::kRows], T* y, std::int64_t stride,
                           std::int64_t rows, int width, bool add) {
  WEDGE_UNROLL
  for (int r = 0; r < Tile<kWidth>::kRows; ++r) {
    if (own_row(r) >= rows) continue;
    WEDGE_UNROLL
    for (int c = 0; c < Tile<kWidth>::kColumns; ++c) {
      const int column = column_of<kWidth>(c);
      if (column < width) put(y + own_row(r) * stride + column, sums[r][c] * factor[r], add);
    }
  }
}

// The sum (maximum) over the threads of an own row.
__device__ inline float sum_across(float x) {
  for (int offset = kAcross / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(kAllLanes, x, offset);
  return x;
}
__device__ inline float max_across(float x) {
  for (int offset = kAcross / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, offset));
  return x;
}

// delta [B, H, L] = rowsum(do ∘ o), do rounded to bfloat16 if `rounded`; a warp a row of a head.
template <class T>
__global__ void __launch_bounds__(kThreads)
    causal_attention_delta_kernel(Sizes n, std::int64_t rows, const T* o, const T* dout, bool rounded,
                                  float* delta) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (std::int64_t k = thread_in_grid() / kWarp; k < rows; k += threads_in_grid() / kWarp) {
    // Heads of a token are neighbours in memory.
    const std::int64_t token = k / n.H, head = k % n.H, at = token * n.D + head * n.width;
    float sum = 0;
    for (int c = lane; c < n.width; c += kWarp) {
      const float d = to_float(dout[at + c]);
      sum += to_float(o[at + c]) * (rounded ? to_float(BFloat16(d)) : d);
    }
    sum = warp_sum(sum);
    if (lane == 0) delta[(token / n.L * n.H + head) * n.L + token % n.L] = sum;
  }
}
template <class Args>
void launch_delta(const Exec& exec, const Sizes& n, const Args& args, bool rounded, float* delta) {
  const std::int64_t rows = args.B * n.H * n.L;
  launch("causal_attention_delta", causal_attention_delta_kernel<std::remove_cvref_t<decltype(*args.o)>>,
         blocks_for(rows, kThreads / kWarp), kThreads, 0, exec.stream, n, rows, args.o, args.dout, rounded,
         delta);
}

// Calls body(kWidth as a type) for the narrowest tiles that hold a head.
template <class Body>
void with_width(int width, const Body& body) {
  if (width <= 16) return body(std::integral_constant<int, 16>());
  if (width <= 32) return body(std::integral_constant<int, 32>());
  if (width <= 64) return body(std::integral_constant<int, 64>());
  body(std::integral_constant<int, kMaxWidth>());
}

}  // namespace wedge::cu::attention
