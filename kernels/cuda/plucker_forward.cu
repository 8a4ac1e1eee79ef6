// g = F Wᵀ + bias, in one of two layouts.
//
// Few rows: a block has 128 rows and 64 columns, whose weights for all steps of the ring it asks for at once.
// While they come, a warp makes s of its 16 rows (the blocks of the first columns keep it for backward), then
// the features step by step in the registers from which the tensor cores take them, so that its only barriers
// are those at which weights have arrived, every four steps. 4,096 rows are 128 blocks at D = 256.
//
// Many rows: s is there. A block has 128 rows and 256 columns and goes through the steps. In each it makes
// the rows' 32 features once, into shared memory, while the tensor cores work on those of the step before;
// the weight's 32 columns arrive four deep. Warps stand two down and four across. Against the other the
// weight is read a quarter as often from L2.
#include <algorithm>

#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/plucker_products.cuh"

namespace wedge::cu::plucker {
namespace {

static_assert(kTileDepth == kRing);

struct FewRows {
  static constexpr int kThreadsOfBlock = 256, kRows = kThreadsOfBlock / kWarp * 16, kColumns = 64;
  static constexpr int kSteps = 4, kUnits = 4;       // between barriers, and so many of those
  static constexpr int kWeights = kColumns * kRing;  // of a step

  // Of a warp's sums on their way out, 16 rows: with 8 more a row they meet no bank twice.
  static constexpr int kPitch = kColumns + 8, kSums = 16 * kPitch;

  static std::size_t bytes(int steps) {
    const auto units = static_cast<std::size_t>(ceil_div(steps, kSteps));
    const std::size_t weights = units * kSteps * kWeights * sizeof(BFloat16);
    return std::max(weights, kThreadsOfBlock / kWarp * kSums * sizeof(float));
  }
};
static_assert(FewRows::kSteps * FewRows::kUnits == kRing / 2);

struct ManyRows {
  static constexpr int kWarpRows = 64, kWarpColumns = 64;
  static constexpr int kDown = 2, kAcross = 4, kStages = 4;
  static constexpr int kThreadsOfBlock = kDown * kAcross * kWarp;
  static constexpr int kRows = kDown * kWarpRows, kColumns = kAcross * kWarpColumns;
  static constexpr int kRowsEach = kRows * kLanesOfRow / kThreadsOfBlock;  // that a lane makes features of
  static constexpr int kMma = kWarpRows / 16, kPairs = kWarpColumns / 16;
  static constexpr std::size_t kBytes =
      (2 * std::size_t{kRows} + kStages * std::size_t{kColumns}) * kRing * sizeof(BFloat16);
};

// y[k] = x[k] for the kWidth columns, at once or those of them that the row has `left`.
template <int kWidth, class T>
__device__ void put_columns(T* y, const float (&x)[kWidth], std::int64_t left, bool at_once) {
  if (at_once) {
    if constexpr (std::is_same_v<T, float>) {
      Pack<float, kWidth> row;
      WEDGE_UNROLL
      for (int k = 0; k < kWidth; ++k) row.v[k] = x[k];
      *reinterpret_cast<Pack<float, kWidth>*>(y) = row;
    } else {
      Pack<std::uint32_t, kWidth / 2> row;
      WEDGE_UNROLL
      for (int k = 0; k < kWidth / 2; ++k) row.v[k] = pack_bf16(x[2 * k], x[2 * k + 1]);
      *reinterpret_cast<Pack<std::uint32_t, kWidth / 2>*>(y) = row;
    }
    return;
  }
  WEDGE_UNROLL
  for (int k = 0; k < kWidth; ++k)
    if (k < left) y[k] = from_float<T>(x[k]);
}
// Whether rows of g allow that.
template <int kWidth, class T>
bool columns_at_once(const Sizes& n, const T* g) {
  return n.D % kWidth == 0 && all_aligned(kWidth * sizeof(T), g);
}

template <class T>
__global__ void __launch_bounds__(FewRows::kThreadsOfBlock)
    plucker_linear_forward_few_rows_kernel(Sizes n, Lags lags, int steps, const T* z, T* s, const BFloat16* w,
                                           const T* bias, T* g, bool whole, bool four_at_once) {
  using Tile = FewRows;
  auto* const weights = dynamic_shared<BFloat16>();  // [steps, columns, 32]
  const int thread = static_cast<int>(threadIdx.x), lane = lane_of_warp();
  // Blocks of the same rows are neighbours.
  const std::int64_t across = ceil_div(n.D, Tile::kColumns);
  const std::int64_t warp_row = blockIdx.x / across * Tile::kRows + thread / kWarp * 16;
  const std::int64_t first_column = blockIdx.x % across * Tile::kColumns;
  const int units = ceil_div(steps, Tile::kSteps);

  // Rows lane / 4 and lane / 4 + 8 of the warp, or the last of all.
  std::int64_t rows[2];
  RingState states[2];
  WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = warp_row + half * 8 + lane / 4;
    rows[half] = row < n.rows ? row : n.rows - 1;
    states[half].load(z + rows[half] * n.R, rows[half] % n.L, n.R, whole);
    states[half].look_back(lags, 0, z + rows[half] * n.R, n.R, whole);
  }
  WEDGE_UNROLL
  for (int unit = 0; unit < Tile::kUnits; ++unit) {
    WEDGE_UNROLL
    for (int k = 0; k < Tile::kSteps; ++k) {
      const int step = unit * Tile::kSteps + k;
      if (unit < units)
        bring_tile<Tile::kColumns, Tile::kThreadsOfBlock>(thread, w + (step * n.D + first_column) * kRing,
                                                          kRing, n.D - first_column, step < steps,
                                                          weights + step * Tile::kWeights);
    }
    cp_async_commit();
  }
  // In the end a lane has four columns.
  const int own_column = lane % (Tile::kColumns / 4) * 4;
  const std::int64_t d = first_column + own_column, left = n.D - d;
  float biases[4];
  WEDGE_UNROLL
  for (int k = 0; k < 4; ++k) biases[k] = bias != nullptr && k < left ? to_float(bias[d + k]) : 0.0f;

  states[0].count(lags);
  states[1].count(lags);
  states[0].add(lags, 0);
  states[1].add(lags, 0);
  for (int first = RingState::kAtOnce; first < lags.count; first += RingState::kAtOnce) {
    states[0].look_back(lags, first, z + rows[0] * n.R, n.R, whole);
    states[1].look_back(lags, first, z + rows[1] * n.R, n.R, whole);
    states[0].add(lags, first);
    states[1].add(lags, first);
  }
  RingFeatures made[2];
  WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    states[half].sum.template round<T>();
    made[half].start(states[half].own, states[half].sum);
    if (first_column == 0 && rows[half] == warp_row + half * 8 + lane / 4)
      states[half].sum.store(s + rows[half] * n.R, n.R, whole);
  }

  float sums[Tile::kColumns / 8][4] = {};
  for (int unit = 0; unit < units; ++unit) {
    cp_async_wait<Tile::kUnits - 1>();  // every unit closes a group, of nothing, to keep this number
    cp_async_commit();
    __syncthreads();
    WEDGE_UNROLL
    for (int k = 0; k < Tile::kSteps; ++k) {
      made[0].advance();
      made[1].advance();
      const BFloat16* const b_tile = weights + (unit * Tile::kSteps + k) * Tile::kWeights;
      WEDGE_UNROLL
      for (int depth = 0; depth < kRing / 16; ++depth) {
        const std::uint32_t a[4] = {made[0].rounded(2 * depth), made[1].rounded(2 * depth),
                                    made[0].rounded(2 * depth + 1), made[1].rounded(2 * depth + 1)};
        WEDGE_UNROLL
        for (int j = 0; j < Tile::kColumns / 16; ++j) {
          std::uint32_t b[4];
          ldmatrix_x4(b,
                      b_tile + j * 16 * kRing + place_of(lane / 16 * 8 + lane % 8, 2 * depth + lane / 8 % 2));
          mma_m16n8k16_bf16(sums[2 * j], a, b);
          mma_m16n8k16_bf16(sums[2 * j + 1], a, b + 2);
        }
      }
    }
  }

  // Through shared memory, where the weights were, so that a store has whole rows.
  __syncthreads();
  float* const mine = reinterpret_cast<float*>(weights) + thread / kWarp * Tile::kSums;
  WEDGE_UNROLL
  for (int j = 0; j < Tile::kColumns / 8; ++j) WEDGE_UNROLL
  for (int half = 0; half < 2; ++half)
    *reinterpret_cast<float2*>(mine + (half * 8 + lane / 4) * Tile::kPitch + j * 8 + lane % 4 * 2) =
        make_float2(sums[j][2 * half], sums[j][2 * half + 1]);
  __syncwarp();
  const auto put_rows = [&](bool at_once) {
    constexpr int kRowsAtOnce = kWarp * 4 / Tile::kColumns;
    WEDGE_UNROLL
    for (int r = 0; r < 16; r += kRowsAtOnce) {
      const int own_row = r + lane / (kWarp / kRowsAtOnce);
      const std::int64_t row = warp_row + own_row, at = row * n.D + d;
      const auto four = *reinterpret_cast<const float4*>(mine + own_row * Tile::kPitch + own_column);
      const float out[4] = {four.x + biases[0], four.y + biases[1], four.z + biases[2], four.w + biases[3]};
      if (row >= n.rows) break;
      put_columns(g + at, out, left, at_once);
    }
  };
  four_at_once&& left >= 4 ? put_rows(true) : put_rows(false);
}

template <class T>
__global__ void __launch_bounds__(ManyRows::kThreadsOfBlock)
    plucker_linear_forward_many_rows_kernel(Sizes n, int steps, const T* z, const T* s, const BFloat16* w,
                                            const T* bias, T* g, bool whole, bool two_at_once) {
  using Tile = ManyRows;
  auto* const features = dynamic_shared<BFloat16>();             // [2, rows, 32]
  BFloat16* const weights = features + 2 * Tile::kRows * kRing;  // [stages, columns, 32]
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = lane_of_warp();
  // Blocks of the same rows are neighbours.
  const std::int64_t across = ceil_div(n.D, Tile::kColumns);
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
      const float two[2] = {sums[i][j][2 * half] + biases[j][0], sums[i][j][2 * half + 1] + biases[j][1]};
      put_columns(g + at, two, left, two_at_once && left >= 2);
    }
  }
}

template <class Tile>
std::int64_t tiles_of(const Sizes& n) {
  return static_cast<std::int64_t>(blocks_for(n.rows, Tile::kRows)) * blocks_for(n.D, Tile::kColumns);
}

}  // namespace

bool forward_makes_states(const Sizes& n) {
  return tiles_of<ManyRows>(n) < kEnoughBlocks;
}

template <class T>
void forward_product(const Exec& exec, const Sizes& n, const Lags& lags, const T* z, T* s, const BFloat16* w,
                     const T* bias, T* g) {
  const int steps = ring_steps(n.R);
  const bool whole = whole_rows(n, z, s);
  if (!forward_makes_states(n))
    launch("plucker_linear_forward", plucker_linear_forward_many_rows_kernel<T>,
           blocks_for(tiles_of<ManyRows>(n), 1), ManyRows::kThreadsOfBlock, ManyRows::kBytes, exec.stream, n,
           steps, z, s, w, bias, g, whole, columns_at_once<2>(n, g));
  else
    launch("plucker_linear_forward", plucker_linear_forward_few_rows_kernel<T>,
           blocks_for(tiles_of<FewRows>(n), 1), FewRows::kThreadsOfBlock, FewRows::bytes(steps), exec.stream,
           n, lags, steps, z, s, w, bias, g, whole, columns_at_once<4>(n, g));
}

#define WEDGE_INSTANTIATE(T)                                                                           \
  template void forward_product(const Exec&, const Sizes&, const Lags&, const T*, T*, const BFloat16*, \
                                const T*, T*);
WEDGE_INSTANTIATE(float)
WEDGE_INSTANTIATE(BFloat16)
#undef WEDGE_INSTANTIATE

}  // namespace wedge::cu::plucker
