// Tiles of bfloat16 in shared memory for products on tensor cores (mma.cuh): rows of 32 elements, four chunks
// of 16 bytes, the chunk's place turned by the row (place_of), so that ldmatrix, cp.async and stores of pairs
// meet no bank twice.
#pragma once

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/mma.cuh"

namespace wedge::cu {

inline constexpr int kTileDepth = 32;
inline constexpr int kChunk = 8;                    // elements of 16 bytes
inline constexpr std::int64_t kEnoughBlocks = 120;  // for the multiprocessors of an H100 or H200

// Where chunk `chunk` of row `row` of a tile lies, in elements.
__device__ inline int place_of(int row, int chunk) {
  return row * kTileDepth + (chunk ^ (row / 2 % 4)) * kChunk;
}

// kThreads threads bring a tile [kRows, 32] of rows `stride` apart, zeros from row `rows` on and where the
// thread's eight columns do not count.
template <int kRows, int kThreads>
__device__ void bring_tile(int thread, const BFloat16* from, std::int64_t stride, std::int64_t rows,
                           bool columns, BFloat16* to) {
  constexpr int kStep = kThreads / 4;
  static_assert(kStep % 8 == 0 && kRows % kStep == 0);  // chunks are turned alike in all rows of a thread
  const int row = thread / 4, chunk = thread % 4;
  from += row * stride + chunk * kChunk;
  to += place_of(row, chunk);
  WEDGE_UNROLL
  for (int r = 0; r < kRows; r += kStep)
    cp_async_16(to + r * kTileDepth, from + r * stride, columns && row + r < rows);
}

// sums [16 kMma, 8 kEighths] += A B for one warp, A the tile whose first row this is; load_b(depth, pair,
// b) loads the words of B that rows 16 depth, ... and columns 16 pair, ... have. Element (row, column) of
// the sums is as mma.cuh's D has it in sums[row / 16][column / 8].
template <int kMma, int kEighths, class LoadB>
__device__ void multiply_tile(const BFloat16* a_rows, float (&sums)[kMma][kEighths][4], const LoadB& load_b) {
  const int lane = lane_of_warp();
  WEDGE_UNROLL
  for (int depth = 0; depth < kTileDepth / 16; ++depth) {
    std::uint32_t a[kMma][4];
    WEDGE_UNROLL
    for (int i = 0; i < kMma; ++i)
      ldmatrix_x4(a[i], a_rows + i * 16 * kTileDepth + place_of(lane % 16, 2 * depth + lane / 16));
    WEDGE_UNROLL
    for (int pair = 0; pair < kEighths / 2; ++pair) {
      std::uint32_t b[4];
      load_b(depth, pair, b);
      WEDGE_UNROLL
      for (int i = 0; i < kMma; ++i) {
        mma_m16n8k16_bf16(sums[i][2 * pair], a[i], b);
        mma_m16n8k16_bf16(sums[i][2 * pair + 1], a[i], b + 2);
      }
    }
  }
}

// The same for Bᵀ, a tile whose first row is `b_rows`.
template <int kMma, int kEighths>
__device__ void multiply_tiles(const BFloat16* a_rows, const BFloat16* b_rows,
                               float (&sums)[kMma][kEighths][4]) {
  const int lane = lane_of_warp(), row = lane / 16 * 8 + lane % 8, chunk = lane / 8 % 2;
  multiply_tile(a_rows, sums, [&](int depth, int pair, std::uint32_t(&b)[4]) {
    ldmatrix_x4(b, b_rows + pair * 16 * kTileDepth + place_of(row, 2 * depth + chunk));
  });
}

}  // namespace wedge::cu
