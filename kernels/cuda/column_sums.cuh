// Sums over the rows of [rows, D] values that kernels compute on their way: the gradients of biases and
// scales.
//
// Layout: a block of 8 warps stands on a tile of 32 columns and one piece of the rows; a lane owns a column,
// so that a warp reads 32 neighbours of one row, and a warp owns every eighth row of the piece. A tile's sums
// go to a float32 partial [pieces, D]; a second kernel adds the pieces in double. Which rows make a piece
// depends on the number of rows alone, and every sum is taken in a fixed order: same inputs, same bits.
// Memory: the partials are at most 1/64 of the values, or 512 rows of them.
#pragma once

#include "kernels/cuda/common.cuh"

namespace wedge::cu {

inline constexpr int kTileWarps = 8;
inline constexpr int kTileThreads = kTileWarps * kWarp;
inline constexpr std::int64_t kPieceRows = 64;  // of a piece, more where there would be too many pieces
inline constexpr std::int64_t kMostPieces = 512;

// The grid of kernels that walk [rows, D] through ColumnTile, blocks of kTileThreads; D > 0.
inline dim3 tile_grid(std::int64_t rows, std::int64_t D) {
  return dim3(blocks_for(D, kWarp), rows > kPieceRows ? blocks_for(rows, kPieceRows, kMostPieces) : 1u);
}

// This thread's place: column `column` of rows first, first + kTileWarps, ... below end. Columns beyond D get
// no rows, so that every thread reaches `sum`.
struct ColumnTile {
  std::int64_t D, column, first, end;

  __device__ ColumnTile(std::int64_t rows, std::int64_t D_) : D(D_) {
    const std::int64_t each = (rows + gridDim.y - 1) / gridDim.y, begin = each * blockIdx.y;
    column = static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x % kWarp;
    first = begin + threadIdx.x / kWarp;
    end = column < D ? (begin + each < rows ? begin + each : rows) : 0;
  }

  // use(row, load(row)) for this thread's rows, in order, with kTogether loads before the first use: for all
  // that the compiler knows, what `use` writes may be what is loaded next.
  template <int kTogether, class Load, class Use>
  __device__ void for_rows(const Load& load, const Use& use) const {
    for (std::int64_t row = first; row < end; row += kTogether * kTileWarps) {
      decltype(load(row)) x[kTogether] = {};
      WEDGE_UNROLL
      for (int k = 0; k < kTogether; ++k)
        if (row + k * kTileWarps < end) x[k] = load(row + k * kTileWarps);
      WEDGE_UNROLL
      for (int k = 0; k < kTogether; ++k)
        if (row + k * kTileWarps < end) use(row + k * kTileWarps, x[k]);
    }
  }

  // partials[piece, which, column] = Σ x over the threads of the tile's column; partials [pieces, sums, D].
  __device__ void sum(float x, float* partials, int which = 0, int sums = 1) const {
    WEDGE_SHARED(float, terms, kTileThreads);
    terms[threadIdx.x] = x;
    __syncthreads();
    if (threadIdx.x < kWarp && column < D) {
      float total = 0;
      for (int warp = 0; warp < kTileWarps; ++warp) total += terms[warp * kWarp + threadIdx.x];
      partials[(static_cast<std::int64_t>(blockIdx.y) * sums + which) * D + column] = total;
    }
    __syncthreads();
  }
};

// One sum over rows and where it goes: out[D] (+)= the total; out may be null.
template <class Out>
struct ColumnSum {
  Out* out;
  bool add;
};
template <class Out>
ColumnSum(Out*, bool) -> ColumnSum<Out>;

// out (+)= Σ over pieces, the sums of a column one after another in one thread: two of them may go to one
// place.
template <int kSums, class Out>
struct ColumnTotals {
  std::int64_t pieces, D;
  const float* partials;  // [pieces, kSums, D]
  ColumnSum<Out> to[kSums];
};

template <int kSums, class Out>
__global__ void column_totals_kernel(ColumnTotals<kSums, Out> a) {
  WEDGE_SHARED(double, terms, kTileThreads);
  const ColumnTile tile(a.pieces, a.D);
  for (int which = 0; which < kSums; ++which) {
    double total = 0;
    tile.for_rows<8>(
        [&](std::int64_t piece) { return a.partials[(piece * kSums + which) * a.D + tile.column]; },
        [&](std::int64_t, float x) { total += static_cast<double>(x); });
    terms[threadIdx.x] = total;
    __syncthreads();
    if (threadIdx.x < kWarp && tile.column < a.D && a.to[which].out != nullptr) {
      for (int warp = 1; warp < kTileWarps; ++warp) total += terms[warp * kWarp + threadIdx.x];
      put(a.to[which].out + tile.column, static_cast<float>(total), a.to[which].add);
    }
    __syncthreads();
  }
}

// Working memory and second pass of a kernel that takes kSums column sums over [rows, D], D > 0.
template <int kSums>
class ColumnSums {
 public:
  ColumnSums(std::int64_t rows, std::int64_t D)
      : D_(D), grid_(tile_grid(rows, D)), partials_(static_cast<std::int64_t>(grid_.y) * kSums * D) {}

  dim3 grid() const { return grid_; }
  float* partials() const { return partials_.data(); }  // [pieces, kSums, D], filled through ColumnTile::sum

  // Takes kSums arguments ColumnSum, of one type.
  template <class Out, class... More>
  void add_up(const Exec& exec, const char* name, const ColumnSum<Out>& to, const More&... more) const {
    static_assert(1 + sizeof...(More) == kSums);
    launch(name, column_totals_kernel<kSums, Out>, dim3(blocks_for(D_, kWarp)), kTileThreads, 0, exec.stream,
           ColumnTotals<kSums, Out>{grid_.y, D_, partials_.data(), {to, more...}});
  }

 private:
  std::int64_t D_;
  dim3 grid_;
  Scratch<float> partials_;
};

}  // namespace wedge::cu
