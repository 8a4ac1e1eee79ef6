// Sums over the rows of [rows, D] values that kernels compute on their way: the gradients of biases and
// scales.
//
// Layout: a block of 8 warps stands on a tile of 32 columns and one piece of the rows; a lane owns a column,
// so that a warp reads 32 neighbours of one row, and a warp owns every eighth row of the piece. A tile's sums
// go to a float32 partial [pieces, D]; a second kernel adds the pieces in double. Which rows make a piece
// depends on the number of rows alone, and every sum is taken in a fixed order: same inputs, same bits.
// Memory: the partials are at most 1/64 of the values, or 512 rows of them.
#pragma once

#include <memory>
#include <type_traits>

#include "kernels/cuda/common.cuh"
#include "kernels/deferred_totals.h"

namespace wedge::cu {

inline constexpr int kTileWarps = 8;
inline constexpr int kTileThreads = kTileWarps * kWarp;
inline constexpr std::int64_t kPieceRows = 64;  // of a piece, more where there would be too many pieces
inline constexpr std::int64_t kMostPieces = 512;

// The grid of kernels that walk [rows, D] through ColumnTile, blocks of kTileThreads; D > 0.
inline dim3 tile_grid(std::int64_t rows, std::int64_t D) {
  return dim3(blocks_for(D, kWarp), rows > kPieceRows ? blocks_for(rows, kPieceRows, kMostPieces) : 1u);
}

// This thread's place: kWidth columns from `column` on of rows first, first + kTileWarps, ... below end.
// Columns beyond D get no rows, so that every thread reaches `sum`.
template <int kWidth = 1>
struct ColumnTile {
  static constexpr int kColumns = kWarp * kWidth;
  std::int64_t D, column, first, end;

  __device__ ColumnTile(std::int64_t rows, std::int64_t D_) : D(D_) {
    const std::int64_t each = ceil_div(rows, gridDim.y), begin = each * blockIdx.y;
    column = static_cast<std::int64_t>(blockIdx.x) * kColumns + threadIdx.x % kWarp * kWidth;
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
  __device__ void sum(const Floats<kWidth>& x, float* partials, int which = 0, int sums = 1) const {
    WEDGE_SHARED(float, terms, kTileWarps* kColumns);
    WEDGE_UNROLL
    for (int k = 0; k < kWidth; ++k) terms[threadIdx.x * kWidth + k] = x.v[k];
    __syncthreads();
    // Of one column a thread they are the same, and the first is in registers.
    const std::int64_t d =
        kWidth == 1 ? column : static_cast<std::int64_t>(blockIdx.x) * kColumns + threadIdx.x;
    if (threadIdx.x < kColumns && d < D) {
      float total = 0;
      for (int warp = 0; warp < kTileWarps; ++warp) total += terms[warp * kColumns + threadIdx.x];
      partials[(static_cast<std::int64_t>(blockIdx.y) * sums + which) * D + d] = total;
    }
    __syncthreads();
  }
  __device__ void sum(float x, float* partials, int which = 0, int sums = 1) const {
    sum(Floats<1>{{x}}, partials, which, sums);
  }
};

// Totals for a kernel's parameters, all to different places; the blocks (x, y) add up number y.
template <int kMost, class Out>
struct ColumnTotals {
  ColumnTotal<Out> of[kMost];
};

// What this kernel takes is latency: the pieces of a column are spread over 32 threads, and a warp reads
// whole sectors, 8 columns of four pieces, so that 512 pieces are two waits for memory. The bound of one
// block a multiprocessor and loads without a condition make the compiler issue them all before the first
// addition. The table stays where parameters are: an index would move a copy to local memory.
inline constexpr int kTotalColumns = 8;  // of a block

template <class Table, class Out>
__global__ void __launch_bounds__(kTileThreads, 1) column_totals_kernel(const __grid_constant__ Table table) {
  constexpr int kSlots = kTileThreads / kTotalColumns, kTogether = 8;
  WEDGE_SHARED(double, terms, kTileWarps* kTotalColumns);
  const ColumnTotal<Out>& a = table.of[blockIdx.y];
  const int in_block = static_cast<int>(threadIdx.x) % kTotalColumns, lane = lane_of_warp();
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * kTotalColumns;
  const std::int64_t column = begin + in_block;
  if (begin >= a.columns) return;
  const bool writes = threadIdx.x < kTotalColumns && column < a.columns;
  const float old = writes && a.add != 0 ? to_float(a.out[column]) : 0.0f;

  double total = 0;
  const int last = a.pieces - 1;
  const float* const at = a.partials + (column < a.columns ? column : a.columns - 1);
  for (int piece = static_cast<int>(threadIdx.x) / kTotalColumns; piece <= last;
       piece += kTogether * kSlots) {
    float x[kTogether];
    WEDGE_UNROLL
    for (int k = 0; k < kTogether; ++k) x[k] = at[min(piece + k * kSlots, last) * a.stride];
    WEDGE_UNROLL
    for (int k = 0; k < kTogether; ++k)
      total += static_cast<double>(piece + k * kSlots <= last ? x[k] : 0.0f);
  }
  for (int offset = kTotalColumns; offset < kWarp; offset *= 2)
    total += __shfl_xor_sync(kAllLanes, total, offset);
  if (lane < kTotalColumns) terms[static_cast<int>(threadIdx.x) / kWarp * kTotalColumns + lane] = total;
  __syncthreads();
  if (!writes) return;
  double sum = 0;
  for (int warp = 0; warp < kTileWarps; ++warp) sum += terms[warp * kTotalColumns + in_block];
  a.out[column] = from_float<Out>(old + static_cast<float>(sum));
}

// Partial sums [pieces, kSums, D] of column sums, and the kernel that adds them up; D > 0.
template <int kSums>
class ColumnPartials {
 public:
  ColumnPartials(std::int64_t pieces, std::int64_t D)
      : pieces_(pieces),
        D_(D),
        partials_(std::make_shared<Storage>(static_cast<std::size_t>(pieces * kSums * D) * sizeof(float),
                                            Device::cuda)) {}

  float* data() const { return reinterpret_cast<float*>(partials_->data()); }

  // Takes kSums sinks [D] of one type, for the sums in order. Two may be one place, added one after another.
  // The totals may wait for others (DeferredTotals).
  template <class Out, class... More>
  void add_up(const Exec& exec, const char* name, const Sink<Out>& to, const More&... more) const {
    static_assert(1 + sizeof...(More) == kSums);
    const Sink<Out> sums[kSums] = {to, more...};
    ColumnTotals<kSums, Out> totals = {};
    int count = 0;
    bool apart = true;
    for (int which = 0; which < kSums; ++which) {
      if (!sums[which]) continue;
      for (int i = 0; i < count; ++i) apart = apart && totals.of[i].out != sums[which].data;
      totals.of[count++] = {
          data() + which * D_, sums[which].data, kSums * D_, D_, static_cast<std::int32_t>(pieces_),
          sums[which].add};
    }
    if constexpr (std::is_same_v<Out, float>) {
      const std::span<const ColumnTotal<float>> wanted(totals.of, static_cast<std::size_t>(count));
      if (DeferredTotals::take(exec.stream, partials_, wanted)) return;
    }
    const auto go = [&](int n) {
      launch(name, column_totals_kernel<ColumnTotals<kSums, Out>, Out>,
             dim3(blocks_for(D_, kTotalColumns), static_cast<unsigned>(n)), kTileThreads, 0, exec.stream,
             totals);
    };
    if (apart) {
      if (count > 0) go(count);
      return;
    }
    for (int i = 0; i < count; ++i) {
      totals.of[0] = totals.of[i];
      go(1);
    }
  }

 private:
  std::int64_t pieces_, D_;
  std::shared_ptr<Storage> partials_;
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
