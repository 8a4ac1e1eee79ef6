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

// out (+)= Σ over pieces. Sums may go to one place, one after another.
template <int kSums, class Out>
struct ColumnTotals {
  std::int64_t pieces, D;
  const float* partials;  // [pieces, kSums, D]
  ColumnSum<Out> to[kSums];
};

// What this kernel takes is latency: the pieces of a column are spread over 32 threads, and a warp reads
// whole sectors, 8 columns of four pieces, so that 512 pieces of two sums are two waits for memory. The bound
// of one block a multiprocessor and loads without a condition make the compiler issue them all before the
// first addition.
inline constexpr int kTotalColumns = 8;  // of a block

template <int kSums, class Out>
__global__ void __launch_bounds__(kTileThreads, 1) column_totals_kernel(ColumnTotals<kSums, Out> a) {
  constexpr int kSlots = kTileThreads / kTotalColumns, kTogether = 8;
  constexpr int kTerms = kSums * kTileWarps * kTotalColumns;
  WEDGE_SHARED(double, terms, kTerms);
  const int in_block = static_cast<int>(threadIdx.x) % kTotalColumns, lane = lane_of_warp();
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kTotalColumns + in_block;
  const bool writes = threadIdx.x < kTotalColumns && column < a.D;

  float old[kSums] = {};
  WEDGE_UNROLL
  for (int which = 0; which < kSums; ++which)
    if (writes && a.to[which].out != nullptr && a.to[which].add)
      old[which] = to_float(a.to[which].out[column]);

  double total[kSums] = {};
  const int pieces = static_cast<int>(a.pieces), last = pieces - 1;
  const float* const at = a.partials + (column < a.D ? column : a.D - 1);
  for (int piece = static_cast<int>(threadIdx.x) / kTotalColumns; piece < pieces;
       piece += kTogether * kSlots) {
    float x[kTogether][kSums];
    WEDGE_UNROLL
    for (int k = 0; k < kTogether; ++k) {
      const float* const p = at + min(piece + k * kSlots, last) * (kSums * a.D);
      WEDGE_UNROLL
      for (int which = 0; which < kSums; ++which) x[k][which] = p[which * a.D];
    }
    WEDGE_UNROLL
    for (int k = 0; k < kTogether; ++k) {
      WEDGE_UNROLL
      for (int which = 0; which < kSums; ++which)
        total[which] += static_cast<double>(piece + k * kSlots <= last ? x[k][which] : 0.0f);
    }
  }
  WEDGE_UNROLL
  for (int which = 0; which < kSums; ++which) {
    for (int offset = kTotalColumns; offset < kWarp; offset *= 2)
      total[which] += __shfl_xor_sync(kAllLanes, total[which], offset);
    if (lane < kTotalColumns)
      terms[(which * kTileWarps + static_cast<int>(threadIdx.x) / kWarp) * kTotalColumns + lane] =
          total[which];
  }
  __syncthreads();
  if (!writes) return;
  WEDGE_UNROLL
  for (int which = 0; which < kSums; ++which) {
    const ColumnSum<Out>& to = a.to[which];
    if (to.out == nullptr) continue;
    double sum = 0;
    for (int warp = 0; warp < kTileWarps; ++warp)
      sum += terms[(which * kTileWarps + warp) * kTotalColumns + in_block];
    bool again = false;
    for (int earlier = 0; earlier < which; ++earlier) again = again || to.out == a.to[earlier].out;
    const float before = again && to.add ? to_float(to.out[column]) : old[which];
    to.out[column] = from_float<Out>(before + static_cast<float>(sum));
  }
}

// Partial sums [pieces, kSums, D] of column sums, and the kernel that adds them up; D > 0.
template <int kSums>
class ColumnPartials {
 public:
  ColumnPartials(std::int64_t pieces, std::int64_t D)
      : pieces_(pieces), D_(D), partials_(pieces * kSums * D) {}

  float* data() const { return partials_.data(); }

  // Takes kSums arguments ColumnSum, of one type.
  template <class Out, class... More>
  void add_up(const Exec& exec, const char* name, const ColumnSum<Out>& to, const More&... more) const {
    static_assert(1 + sizeof...(More) == kSums);
    launch(name, column_totals_kernel<kSums, Out>, dim3(blocks_for(D_, kTotalColumns)), kTileThreads, 0,
           exec.stream, ColumnTotals<kSums, Out>{pieces_, D_, partials_.data(), {to, more...}});
  }

 private:
  std::int64_t pieces_, D_;
  Scratch<float> partials_;
};

// Working memory and second pass of a kernel that takes kSums column sums over [rows, D] through
// ColumnTile::sum, D > 0.
template <int kSums>
class ColumnSums : public ColumnPartials<kSums> {
 public:
  ColumnSums(std::int64_t rows, std::int64_t D)
      : ColumnPartials<kSums>(tile_grid(rows, D).y, D), grid_(tile_grid(rows, D)) {}

  dim3 grid() const { return grid_; }
  float* partials() const { return this->data(); }

 private:
  dim3 grid_;
};

}  // namespace wedge::cu
