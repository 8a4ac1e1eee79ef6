// g = F Wᵀ + bias. Layout: a block has a tile of rows and of columns of g and goes through the steps of the
// ring. In each it makes the rows' 32 features once, into shared memory, while the tensor cores work on those
// of the step before; the weight's 32 columns arrive four deep by cp.async. Warps stand two down and four
// across. Tiles of 64 × 128 give 4,096 rows to 128 blocks; where there are rows enough for 128 × 256, the
// weight is read half as often and the features are made once.
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/plucker_products.cuh"
#include "kernels/cuda/plucker_ring_weight.cuh"

namespace wedge::cu::plucker {
namespace {

static_assert(kTileDepth == kRing);

template <int kWarpRows_, int kWarpColumns_>
struct ForwardTile {
  static constexpr int kWarpRows = kWarpRows_, kWarpColumns = kWarpColumns_;
  static constexpr int kDown = 2, kAcross = 4, kStages = 4;
  static constexpr int kThreadsOfBlock = kDown * kAcross * kWarp;
  static constexpr int kRows = kDown * kWarpRows, kColumns = kAcross * kWarpColumns;
  static constexpr int kRowsEach = kRows * kLanesOfRow / kThreadsOfBlock;  // that a lane makes features of
  static constexpr int kMma = kWarpRows / 16, kPairs = kWarpColumns / 16;
  static constexpr std::size_t kBytes =
      (2 * std::size_t{kRows} + kStages * std::size_t{kColumns}) * kRing * sizeof(BFloat16);
};
using SmallTile = ForwardTile<32, 32>;
using LargeTile = ForwardTile<64, 64>;

// y[0], y[1] = a, b; only as many as the row has, at once where that is allowed.
template <class T>
__device__ void put_two(T* y, float a, float b, std::int64_t left, bool at_once) {
  if (left >= 2 && at_once) {
    if constexpr (std::is_same_v<T, float>)
      *reinterpret_cast<float2*>(y) = make_float2(a, b);
    else
      *reinterpret_cast<std::uint32_t*>(y) = pack_bf16(a, b);
    return;
  }
  if (left > 0) y[0] = from_float<T>(a);
  if (left > 1) y[1] = from_float<T>(b);
}

template <class Tile, class T>
__global__ void __launch_bounds__(Tile::kThreadsOfBlock)
    plucker_linear_forward_kernel(Sizes n, int steps, const T* z, const T* s, const BFloat16* w,
                                  const T* bias, T* g, BFloat16* g_rounded, bool whole, bool two_at_once) {
  auto* const features = dynamic_shared<BFloat16>();             // [2, rows, 32]
  BFloat16* const weights = features + 2 * Tile::kRows * kRing;  // [stages, columns, 32]
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = lane_of_warp();
  // Blocks of the same rows are neighbours.
  const std::int64_t across = (n.D + Tile::kColumns - 1) / Tile::kColumns;
  const std::int64_t first_row = blockIdx.x / across * Tile::kRows;
  const std::int64_t first_column = blockIdx.x % across * Tile::kColumns;

  const auto bring_weights = [&](int step) {
    if (step < steps)
      bring_tile<Tile::kColumns, Tile::kThreadsOfBlock>(
          thread, w + (step * n.D + first_column) * kRing, kRing, n.D - first_column, true,
          weights + step % Tile::kStages * Tile::kColumns * kRing);
    cp_async_commit();
  };
  for (int step = 0; step + 1 < Tile::kStages; ++step) bring_weights(step);

  // The rows whose features this thread makes: its own, + threads / 4, ...
  const int own_row = thread / kLanesOfRow;
  RingFeatures made[Tile::kRowsEach];
  WEDGE_UNROLL
  for (int r = 0; r < Tile::kRowsEach; ++r) {
    const std::int64_t row = first_row + own_row + r * Tile::kThreadsOfBlock / kLanesOfRow;
    made[r].load(z + row * n.R, s + row * n.R, row < n.rows, n.R, whole);
  }
  const auto make_features = [&](int step) {
    BFloat16* const to = features + step % 2 * Tile::kRows * kRing;
    WEDGE_UNROLL
    for (int r = 0; r < Tile::kRowsEach; ++r) {
      const int row = own_row + r * Tile::kThreadsOfBlock / kLanesOfRow;
      made[r].advance();
      WEDGE_UNROLL
      for (int pair = 0; pair < 4; ++pair)
        *reinterpret_cast<std::uint32_t*>(to + place_of(row, pair) + thread % kLanesOfRow * 2) =
            made[r].rounded(pair);
    }
  };
  make_features(0);

  const int warp_row = warp / Tile::kAcross * Tile::kWarpRows;
  const int warp_column = warp % Tile::kAcross * Tile::kWarpColumns;
  float sums[Tile::kMma][2 * Tile::kPairs][4] = {};
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<Tile::kStages - 2>();
    // The step's operands are there, and nobody reads those any more that are written over next.
    __syncthreads();
    bring_weights(step + Tile::kStages - 1);
    const BFloat16* const a_tile = features + step % 2 * Tile::kRows * kRing;
    const BFloat16* const b_tile = weights + step % Tile::kStages * Tile::kColumns * kRing;
    multiply_tiles(a_tile + warp_row * kRing, b_tile + warp_column * kRing, sums);
    if (step + 1 < steps) make_features(step + 1);
  }

  // All of the bias is read before the first store could forbid it.
  float biases[2 * Tile::kPairs][2];
  WEDGE_UNROLL
  for (int j = 0; j < 2 * Tile::kPairs; ++j) WEDGE_UNROLL
  for (int b = 0; b < 2; ++b) {
    const std::int64_t d = first_column + warp_column + j * 8 + lane % 4 * 2 + b;
    biases[j][b] = bias != nullptr && d < n.D ? to_float(bias[d]) : 0.0f;
  }
  WEDGE_UNROLL
  for (int j = 0; j < 2 * Tile::kPairs; ++j) {
    const std::int64_t d = first_column + warp_column + j * 8 + lane % 4 * 2, left = n.D - d;
    WEDGE_UNROLL
    for (int i = 0; i < Tile::kMma; ++i) WEDGE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const std::int64_t row = first_row + warp_row + i * 16 + half * 8 + lane / 4;
      if (row >= n.rows) continue;
      const std::int64_t at = row * n.D + d;
      const float g0 = sums[i][j][2 * half] + biases[j][0], g1 = sums[i][j][2 * half + 1] + biases[j][1];
      put_two(g + at, g0, g1, left, two_at_once);
      if (g_rounded != nullptr) put_two(g_rounded + at, g0, g1, left, two_at_once);
    }
  }
}

template <class Tile>
std::int64_t tiles_of(const Sizes& n) {
  return static_cast<std::int64_t>(blocks_for(n.rows, Tile::kRows)) * blocks_for(n.D, Tile::kColumns);
}

}  // namespace

template <class T>
void forward_product(const Exec& exec, const Sizes& n, const T* z, const T* s, const T* weight, const T* bias,
                     T* g, BFloat16* g_rounded) {
  const RingWeight w(exec, n, weight);
  const bool two_at_once =
      n.D % 2 == 0 && is_aligned(g, 2 * sizeof(T)) && is_aligned(g_rounded, 2 * sizeof(BFloat16));
  const auto launch_tiles = [&]<class Tile>(Tile) {
    launch("plucker_linear_forward", plucker_linear_forward_kernel<Tile, T>, blocks_for(tiles_of<Tile>(n), 1),
           Tile::kThreadsOfBlock, Tile::kBytes, exec.stream, n, ring_steps(n.R), z, s, w.data(), bias, g,
           g_rounded, whole_rows(n, z, s), two_at_once);
  };
  tiles_of<LargeTile>(n) >= kEnoughBlocks ? launch_tiles(LargeTile()) : launch_tiles(SmallTile());
}

template void forward_product(const Exec&, const Sizes&, const float*, const float*, const float*,
                              const float*, float*, BFloat16*);
template void forward_product(const Exec&, const Sizes&, const BFloat16*, const BFloat16*, const BFloat16*,
                              const BFloat16*, BFloat16*, BFloat16*);

}  // namespace wedge::cu::plucker
