// A 64 × 64 tile of a product in float32, for kernels that make an operand on the way.
//
// Layout: 256 threads, 4 × 4 sums each, as rows of A times rows of B: sums[r][c] = Σ_k A[r, k] B[c, k]. Both
// operands pass through shared memory 16 deep, stored [k][row], so that a thread reads its 4 + 4 values as
// two 16-byte loads. The next 16 wait in registers meanwhile, which hides the way to global memory.
//
// An operand derives from OperandPlace, which says what elements the thread brings, and has
//   void load(std::int64_t k);        starts to read its elements of depth k, k + 1, ...: k = 0, 16, ...
//   float value(int which) const;     element `which` < kProductEach of what was loaded; 0 beyond the end
#pragma once

#include "kernels/cuda/common.cuh"

namespace wedge::cu {

inline constexpr int kProductThreads = 256;
inline constexpr int kProductTile = 64;   // rows of A, rows of B
inline constexpr int kProductDepth = 16;  // of the tile in shared memory
inline constexpr int kProductEach = kProductTile * kProductDepth / kProductThreads;
inline constexpr int kProductPitch = kProductTile + 4;  // keeps 16-byte loads, spreads stores over the banks

// Which elements (depth, row) of a tile a thread brings. Neighbours in memory go to neighbouring threads:
// they are neighbours in depth or, where the operand lies transposed, in rows.
template <bool kAlongDepth>
struct OperandPlace {
  int depth, row;  // of its first element

  __device__ OperandPlace() {
    const int thread = static_cast<int>(threadIdx.x);
    depth = kAlongDepth ? thread % kProductDepth : thread / kProductTile;
    row = kAlongDepth ? thread / kProductDepth : thread % kProductTile;
  }
  __device__ int depth_of(int which) const {
    return kAlongDepth ? depth : depth + which * (kProductThreads / kProductTile);
  }
  __device__ int row_of(int which) const {
    return kAlongDepth ? row + which * (kProductThreads / kProductDepth) : row;
  }
};

// Rows first, first + 1, ... of an operand in memory: X[row, k] = x[row · stride + k], or x[k · stride + row]
// where it lies transposed (kAlongDepth = false).
template <class T, bool kAlongDepth>
struct MatrixOperand : OperandPlace<kAlongDepth> {
  const T* x;
  std::int64_t stride, first, rows, depth_end;
  T loaded[kProductEach];

  __device__ MatrixOperand(const T* x_, std::int64_t stride_, std::int64_t first_, std::int64_t rows_,
                           std::int64_t depth_end_)
      : x(x_), stride(stride_), first(first_), rows(rows_), depth_end(depth_end_) {}

  __device__ void load(std::int64_t k) {
    for (int which = 0; which < kProductEach; ++which) {
      const std::int64_t at_row = first + this->row_of(which), at_depth = k + this->depth_of(which);
      loaded[which] = at_row < rows && at_depth < depth_end
                          ? x[kAlongDepth ? at_row * stride + at_depth : at_depth * stride + at_row]
                          : from_float<T>(0.0f);
    }
  }
  __device__ float value(int which) const { return to_float(loaded[which]); }
};

// This thread's first row and column of the tile of sums; it has 4 of each.
__device__ inline int product_row() {
  return static_cast<int>(threadIdx.x) / (kProductTile / 4) * 4;
}
__device__ inline int product_column() {
  return static_cast<int>(threadIdx.x) % (kProductTile / 4) * 4;
}

// All kProductThreads of a block must call; sums are in order of k.
template <class A, class B>
__device__ void product_tile(A a, B b, std::int64_t depth, float (&sums)[4][4]) {
  WEDGE_SHARED(float, a_tile, kProductDepth* kProductPitch);
  WEDGE_SHARED(float, b_tile, kProductDepth* kProductPitch);
  const int row = product_row(), column = product_column();
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c) sums[r][c] = 0;

  if (depth > 0) {
    a.load(0);
    b.load(0);
  }
  for (std::int64_t k = 0; k < depth; k += kProductDepth) {
    for (int which = 0; which < kProductEach; ++which) {
      a_tile[a.depth_of(which) * kProductPitch + a.row_of(which)] = a.value(which);
      b_tile[b.depth_of(which) * kProductPitch + b.row_of(which)] = b.value(which);
    }
    __syncthreads();
    if (k + kProductDepth < depth) {
      a.load(k + kProductDepth);
      b.load(k + kProductDepth);
    }
    for (int step = 0; step < kProductDepth; ++step) {
      const float4 x = *reinterpret_cast<const float4*>(&a_tile[step * kProductPitch + row]);
      const float4 y = *reinterpret_cast<const float4*>(&b_tile[step * kProductPitch + column]);
      const float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
      for (int r = 0; r < 4; ++r)
        for (int c = 0; c < 4; ++c) sums[r][c] += xs[r] * ys[c];
    }
    __syncthreads();
  }
}

}  // namespace wedge::cu
