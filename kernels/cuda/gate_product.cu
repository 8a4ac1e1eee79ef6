// Layout: a block has a tile of rows and of columns of u = [h ; g] Wᵀ and goes through h's columns with those
// of W's left half, 32 at a time, then through g's with the right half's: rows and weights arrive four deep
// by cp.async, and one warp's sums are its part of u. Warps stand two down and four across. The sigmoid
// and the blend are made of the sums, so u is never in memory; h and g are read for it once more, as they
// are: of the small tile while the products are made, of the large one, whose sums fill the registers,
// afterwards, and always many before the first is used. Tiles of 64 × 128 give 4,096 rows of 256 to 128
// blocks; where there are rows enough for 128 × 256, every factor is read half as often.
#include "kernels/cuda/gate_product.cuh"

#include "kernels/cuda/math.cuh"
#include "kernels/cuda/mma_tile.cuh"

namespace wedge::cu {
namespace {

template <int kWarpRows, int kWarpColumns_>
struct GateTile {
  static constexpr int kAcross = 4, kDown = 2, kStages = 4, kWarpColumns = kWarpColumns_;
  static constexpr int kThreadsOfBlock = kDown * kAcross * kWarp;
  static constexpr int kMma = kWarpRows / 16, kEighths = kWarpColumns / 8;  // of a warp
  static constexpr int kAtOnce = 8 / kMma;  // eighths whose h and g are read before the first is used
  static constexpr int kRows = kDown * kWarpRows, kColumns = kAcross * kWarpColumns;
  static constexpr int kStage = (kRows + kColumns) * kTileDepth;
  static constexpr std::size_t kBytes = kStages * std::size_t{kStage} * sizeof(BFloat16);
};
using SmallTile = GateTile<32, 32>;
using LargeTile = GateTile<64, 64>;

template <class T>
using Two = Pack<T, 2>;

// What the blend of kAtOnce eighths of a warp's tile reads, from row `row` and column `d` of this lane on;
// zeros beyond the last. All loads are issued before a store could forbid it.
template <class Tile, class T>
struct GateInputs {
  Two<T> h[Tile::kAtOnce][Tile::kMma][2], g[Tile::kAtOnce][Tile::kMma][2], bias[Tile::kAtOnce];

  __device__ void load(const GateBlendForward<T>& n, std::int64_t row, std::int64_t d) {
    WEDGE_UNROLL
    for (int j = 0; j < Tile::kAtOnce; ++j) {
      const bool column = d + j * 8 < n.D;
      bias[j] = {};
      if (column && n.bias != nullptr) bias[j] = {n.bias[d + j * 8], n.bias[d + j * 8 + 1]};
      WEDGE_UNROLL
      for (int i = 0; i < Tile::kMma; ++i) WEDGE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const std::int64_t at = (row + i * 16 + half * 8) * n.D + d + j * 8;
        h[j][i][half] = g[j][i][half] = {};
        if (!column || row + i * 16 + half * 8 >= n.rows) continue;
        h[j][i][half] = *reinterpret_cast<const Two<T>*>(n.h + at);
        g[j][i][half] = *reinterpret_cast<const Two<T>*>(n.g + at);
      }
    }
  }
};

template <class Tile, class T>
__global__ void __launch_bounds__(Tile::kThreadsOfBlock)
    gate_product_kernel(GateBlendForward<T> n, const BFloat16* h, const BFloat16* g, const BFloat16* w) {
  auto* const stages = dynamic_shared<BFloat16>();  // [stages, rows + columns, 32]
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = lane_of_warp();
  // Blocks of the same rows are neighbours.
  const std::int64_t across = ceil_div(n.D, Tile::kColumns);
  const std::int64_t first_row = blockIdx.x / across * Tile::kRows;
  const std::int64_t first_column = blockIdx.x % across * Tile::kColumns;
  const int steps_each = static_cast<int>(ceil_div(n.D, kTileDepth)), steps = 2 * steps_each;

  const auto bring = [&](int step) {
    if (step < steps) {
      const bool of_g = step >= steps_each;
      const std::int64_t k = (of_g ? step - steps_each : step) * kTileDepth;
      const bool columns = k + thread % 4 * kChunk < n.D;
      BFloat16* const to = stages + step % Tile::kStages * Tile::kStage;
      bring_tile<Tile::kRows, Tile::kThreadsOfBlock>(thread, (of_g ? g : h) + first_row * n.D + k, n.D,
                                                     n.rows - first_row, columns, to);
      bring_tile<Tile::kColumns, Tile::kThreadsOfBlock>(
          thread, w + first_column * 2 * n.D + (of_g ? n.D : 0) + k, 2 * n.D, n.D - first_column, columns,
          to + Tile::kRows * kTileDepth);
    }
    cp_async_commit();
  };
  for (int step = 0; step + 1 < Tile::kStages; ++step) bring(step);

  const int warp_row = warp / Tile::kAcross * Tile::kMma * 16;
  const int warp_column = warp % Tile::kAcross * Tile::kWarpColumns;
  const std::int64_t lane_row = first_row + warp_row + lane / 4;
  const std::int64_t lane_column = first_column + warp_column + lane % 4 * 2;
  constexpr bool kAhead = Tile::kAtOnce == Tile::kEighths;
  GateInputs<Tile, T> in;
  if constexpr (kAhead) in.load(n, lane_row, lane_column);
  float u[Tile::kMma][Tile::kEighths][4] = {};
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<Tile::kStages - 2>();
    // The step's operands are there, and nobody reads those any more that are written over next.
    __syncthreads();
    bring(step + Tile::kStages - 1);
    const BFloat16* const rows = stages + step % Tile::kStages * Tile::kStage;
    multiply_tiles(rows + warp_row * kTileDepth, rows + (Tile::kRows + warp_column) * kTileDepth, u);
  }

  WEDGE_UNROLL
  for (int first = 0; first < Tile::kEighths; first += Tile::kAtOnce) {
    if constexpr (!kAhead) in.load(n, lane_row, lane_column + first * 8);
    WEDGE_UNROLL
    for (int j = 0; j < Tile::kAtOnce; ++j) {
      const std::int64_t d = lane_column + (first + j) * 8;
      if (d >= n.D) continue;
      const float b0 = to_float(in.bias[j].v[0]), b1 = to_float(in.bias[j].v[1]);
      WEDGE_UNROLL
      for (int i = 0; i < Tile::kMma; ++i) WEDGE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const std::int64_t row = lane_row + i * 16 + half * 8;
        if (row >= n.rows) continue;
        const std::int64_t at = row * n.D + d;
        const Two<T> h2 = in.h[j][i][half], g2 = in.g[j][i][half];
        const float alpha0 = sigmoid(u[i][first + j][2 * half] + b0);
        const float alpha1 = sigmoid(u[i][first + j][2 * half + 1] + b1);
        const float hx = to_float(h2.v[0]), hy = to_float(h2.v[1]), gx = to_float(g2.v[0]),
                    gy = to_float(g2.v[1]);
        *reinterpret_cast<Two<T>*>(n.alpha + at) = {from_float<T>(alpha0), from_float<T>(alpha1)};
        *reinterpret_cast<Two<T>*>(n.y + at) = {from_float<T>(blend(alpha0, hx, gx)),
                                                from_float<T>(blend(alpha1, hy, gy))};
      }
    }
  }
}

template <class Tile>
std::int64_t tiles_of(std::int64_t rows, std::int64_t D) {
  return static_cast<std::int64_t>(blocks_for(rows, Tile::kRows)) * blocks_for(D, Tile::kColumns);
}

}  // namespace

template <class T>
bool gate_product(const Exec& exec, const GateBlendForward<T>& n) {
  const BFloat16 *h = n.h_rounded, *g = n.g_rounded, *w = n.weight_rounded;
  if constexpr (std::is_same_v<T, BFloat16>) h = n.h, g = n.g, w = n.weight;
  if (n.rows == 0 || n.D == 0 || n.D % kChunk != 0 || h == nullptr || g == nullptr || w == nullptr)
    return false;
  if (!all_aligned(16, h, g, w, n.h, n.g, n.alpha, n.y)) return false;
  const auto launch_tiles = [&]<class Tile>(Tile) {
    launch("gate_product", gate_product_kernel<Tile, T>, blocks_for(tiles_of<Tile>(n.rows, n.D), 1),
           Tile::kThreadsOfBlock, Tile::kBytes, exec.stream, n, h, g, w);
  };
  tiles_of<LargeTile>(n.rows, n.D) >= kEnoughBlocks ? launch_tiles(LargeTile()) : launch_tiles(SmallTile());
  return true;
}

template bool gate_product(const Exec&, const GateBlendForward<float>&);
template bool gate_product(const Exec&, const GateBlendForward<BFloat16>&);

}  // namespace wedge::cu
