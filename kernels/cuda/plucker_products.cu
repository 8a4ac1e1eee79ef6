// Layout
//   to_ring   the weight as bfloat16 in the order of plucker_ring.cuh, once a call: a thread an element.
//   forward   a block has a tile of rows and of columns of g and goes through the steps of the ring. In each
//             it makes the rows' 32 features once, into shared memory, while the tensor cores work on those
//             of the step before; the weight's 32 columns arrive four deep by cp.async. Warps stand two
//             down and four across. Tiles of 64 × 128 give 4,096 rows to 128 blocks; where there are rows
//             enough for 128 × 256, the weight is read half as often and the features are made once.
//   dweight   tiles of 128 columns of dg and eight steps, over pieces of the rows, whose sums a second kernel
//             adds in order. 32 rows at a time: dg and, as they lie, z and s arrive four deep, and features
//             are made of the next rows while the tensor cores work on these.
//   contract  a warp has 16 rows of dg, which stay in shared memory, and goes through steps two by two: their
//             part of G = dg W arises in the lanes that have its slots of the ring (plucker_ring.cuh), which
//             add it to G z and G s at once. Where rows are few, four groups of warps share the steps of 32
//             rows, and their sums are added in order. What is left of dz_t and the pulls follows, four lanes
//             a row.
#include "kernels/cuda/plucker_products.cuh"

#include "kernels/cuda/mma_tile.cuh"

namespace wedge::cu::plucker {
namespace {

static_assert(kTileDepth == kRing);
constexpr std::int64_t kDweightPieceRows = 128;  // of a piece of dweight, at least
constexpr std::int64_t kDweightBlocks = 132;     // at most, where the pieces are longer

template <class T>
__global__ void plucker_linear_to_ring_kernel(int R, std::int64_t D, int P, std::int64_t count,
                                              const T* weight, BFloat16* w) {
  for (std::int64_t at = thread_in_grid(); at < count; at += threads_in_grid()) {
    const std::int64_t d = at / kRing % D;
    const RingPair pair(ring_slot(static_cast<int>(at % kRing)), 1 + static_cast<int>(at / kRing / D), R);
    const float x = pair.feature < 0 ? 0.0f : to_float(weight[d * P + pair.feature]);
    w[at] = from_float<BFloat16>(pair.negative ? -x : x);
  }
}

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

// The weight [D, P] in the order of the ring: [steps, D, 32].
class RingWeight {
 public:
  template <class T>
  RingWeight(const Exec& exec, const Sizes& n, const T* weight) : w_(ring_steps(n.R) * n.D * kRing) {
    const std::int64_t count = ring_steps(n.R) * n.D * kRing;
    launch("plucker_linear_to_ring", plucker_linear_to_ring_kernel<T>, blocks_for(count, kThreads), kThreads,
           0, exec.stream, n.R, n.D, n.P, count, weight, w_.data());
  }
  const BFloat16* data() const { return w_.data(); }

 private:
  Scratch<BFloat16> w_;
};

// parts [pieces, steps, D, 32] = the pieces' parts of dgᵀ F.
struct DweightTile {
  static constexpr int kColumns = 128, kSteps = 8, kRows = 32, kStages = 4, kThreadsOfBlock = 256;
  static constexpr int kMma = 4, kPairs = 4;  // of a warp, two down and four across
  static constexpr int kGradients = kRows * kColumns, kFeatures = kRows * kSteps * kRing;
  static constexpr int kRaw = kRows * kRing;  // of z or s
  template <class T>
  static constexpr std::size_t bytes() {
    return kStages * (kGradients * sizeof(BFloat16) + 2 * kRaw * sizeof(T)) +
           2 * kFeatures * sizeof(BFloat16);
  }
};

// to [kRows, R] = the rows of x from `row` on, as they lie, zeros from `end` on. row · R elements are a
// multiple of 16 bytes.
template <class T>
__device__ void bring_rows(const T* x, std::int64_t row, std::int64_t end, int R, bool aligned, T* to) {
  constexpr int kAtOnce = 16 / sizeof(T);
  const T* const from = x + row * R;
  const std::int64_t left = (end - row) * R;
  for (int k = static_cast<int>(threadIdx.x) * kAtOnce; k < DweightTile::kRows * R;
       k += DweightTile::kThreadsOfBlock * kAtOnce) {
    if (aligned && (left >= k + kAtOnce || left <= k)) {
      cp_async_16(to + k, from + k, left > k);
    } else {
      for (int i = k; i < k + kAtOnce; ++i) to[i] = i < left ? from[i] : from_float<T>(0.0f);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(DweightTile::kThreadsOfBlock)
    plucker_linear_dweight_ring_kernel(Sizes n, int steps, std::int64_t piece_rows, const T* z, const T* s,
                                       Rounded dg, float* parts, bool aligned) {
  using Tile = DweightTile;
  auto* const features = dynamic_shared<BFloat16>();           // [2, steps, rows, 32]
  BFloat16* const gradients = features + 2 * Tile::kFeatures;  // [stages, columns / 32, rows, 32]
  T* const raw =
      reinterpret_cast<T*>(gradients + Tile::kStages * Tile::kGradients);  // [stages, z and s, rows, R]
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = lane_of_warp();
  // Blocks of the same rows are neighbours.
  const int step_tiles = (steps + Tile::kSteps - 1) / Tile::kSteps;
  const std::int64_t tiles = (n.D + Tile::kColumns - 1) / Tile::kColumns * step_tiles;
  const std::int64_t piece = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const std::int64_t first_column = tile / step_tiles * Tile::kColumns;
  const int first_step = static_cast<int>(tile % step_tiles) * Tile::kSteps;
  const std::int64_t first = piece * piece_rows;
  const std::int64_t end = first + piece_rows < n.rows ? first + piece_rows : n.rows;
  const int chunks = static_cast<int>((end - first + Tile::kRows - 1) / Tile::kRows);

  const auto bring = [&](int chunk) {
    if (chunk < chunks) {
      const std::int64_t row = first + static_cast<std::int64_t>(chunk) * Tile::kRows;
      BFloat16* const to = gradients + chunk % Tile::kStages * Tile::kGradients;
      constexpr int kThreadsOfPart = Tile::kRows * 4;
      WEDGE_UNROLL
      for (int p = 0; p < Tile::kColumns / kRing; p += Tile::kThreadsOfBlock / kThreadsOfPart) {
        const int part = p + thread / kThreadsOfPart;
        const std::int64_t d = first_column + part * kRing;
        bring_tile<Tile::kRows, kThreadsOfPart>(thread % kThreadsOfPart, dg.x + row * dg.pitch + d, dg.pitch,
                                                end - row, d + thread % 4 * kChunk < n.D,
                                                to + part * Tile::kRows * kRing);
      }
      T* const raw_z = raw + chunk % Tile::kStages * 2 * Tile::kRaw;
      bring_rows(z, row, end, n.R, aligned, raw_z);
      bring_rows(s, row, end, n.R, aligned, raw_z + Tile::kRaw);
    }
    cp_async_commit();
  };
  // A lane makes half of the steps of its row.
  const auto make_features = [&](int chunk) {
    const int row = thread / kLanesOfRow % Tile::kRows;
    const int own_step = thread / (kLanesOfRow * Tile::kRows) * Tile::kSteps / 2;
    const T* const raw_z = raw + chunk % Tile::kStages * 2 * Tile::kRaw;
    BFloat16* const to = features + chunk % 2 * Tile::kFeatures + thread % kLanesOfRow * 2;
    RingFeatures made;
    made.load_ahead(raw_z + row * n.R, raw_z + Tile::kRaw + row * n.R, n.R, first_step + own_step);
    WEDGE_UNROLL
    for (int k = 0; k < Tile::kSteps / 2; ++k) {
      made.advance();
      WEDGE_UNROLL
      for (int pair = 0; pair < 4; ++pair)
        *reinterpret_cast<std::uint32_t*>(to + (own_step + k) * Tile::kRows * kRing + place_of(row, pair)) =
            made.rounded(pair);
    }
  };
  for (int chunk = 0; chunk + 1 < Tile::kStages; ++chunk) bring(chunk);
  cp_async_wait<Tile::kStages - 2>();
  __syncthreads();
  make_features(0);

  const int warp_part = warp / 4 * 2, warp_step = warp % 4 * 2;  // 64 columns, two steps
  float sums[Tile::kMma][2 * Tile::kPairs][4] = {};
  for (int chunk = 0; chunk < chunks; ++chunk) {
    cp_async_wait<Tile::kStages - 3>();
    // The chunk's features and the next one's rows are there; nobody reads what is written over next.
    __syncthreads();
    bring(chunk + Tile::kStages - 1);
    const BFloat16* const a_tile =
        gradients + chunk % Tile::kStages * Tile::kGradients + warp_part * Tile::kRows * kRing;
    const BFloat16* const b_tile = features + chunk % 2 * Tile::kFeatures + warp_step * Tile::kRows * kRing;
    WEDGE_UNROLL
    for (int depth = 0; depth < Tile::kRows; depth += 16) {
      std::uint32_t a[Tile::kMma][4];
      WEDGE_UNROLL
      for (int i = 0; i < Tile::kMma; ++i)
        ldmatrix_x4_trans(a[i], a_tile + (i / 2 * Tile::kRows + depth) * kRing +
                                    place_of(lane / 16 * 8 + lane % 8, i % 2 * 2 + lane / 8 % 2));
      WEDGE_UNROLL
      for (int j = 0; j < Tile::kPairs; ++j) {
        std::uint32_t b[4];
        ldmatrix_x4_trans(
            b, b_tile + (j / 2 * Tile::kRows + depth) * kRing + place_of(lane % 16, j % 2 * 2 + lane / 16));
        WEDGE_UNROLL
        for (int i = 0; i < Tile::kMma; ++i) {
          mma_m16n8k16_bf16(sums[i][2 * j], a[i], b);
          mma_m16n8k16_bf16(sums[i][2 * j + 1], a[i], b + 2);
        }
      }
    }
    if (chunk + 1 < chunks) make_features(chunk + 1);
  }

  WEDGE_UNROLL
  for (int j = 0; j < 2 * Tile::kPairs; ++j) {
    const int step = first_step + warp_step + j / 4;
    if (step >= steps) continue;
    WEDGE_UNROLL
    for (int i = 0; i < Tile::kMma; ++i) WEDGE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const std::int64_t d = first_column + warp_part * kRing + i * 16 + half * 8 + lane / 4;
      float* const to = parts + ((piece * steps + step) * n.D + d) * kRing + j % 4 * 8 + lane % 4 * 2;
      if (d < n.D)
        *reinterpret_cast<float2*>(to) = make_float2(sums[i][j][2 * half], sums[i][j][2 * half + 1]);
    }
  }
}

// out [D, P] (+)= Σ over pieces of parts [pieces, steps, D, 32], in order.
__global__ void plucker_linear_from_ring_kernel(int R, std::int64_t D, int P, std::int64_t pieces,
                                                std::int64_t count, const float* parts, float* out,
                                                bool add) {
  for (std::int64_t at = thread_in_grid(); at < count; at += threads_in_grid()) {
    const std::int64_t d = at / kRing % D;
    const RingPair pair(ring_slot(static_cast<int>(at % kRing)), 1 + static_cast<int>(at / kRing / D), R);
    if (pair.feature < 0) continue;
    float sum = 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) sum += parts[piece * count + at];
    put(out + d * P + pair.feature, pair.negative ? -sum : sum, add);
  }
}

// q and own [rows, R] =, pulls [rows, lags] = for the lags that a row has.
template <int kRowWarps_, int kGroups_, int kStages_>
struct ContractTile {
  static constexpr int kRowWarps = kRowWarps_, kGroups = kGroups_, kStages = kStages_;
  static constexpr int kSteps = 2, kDepth = 64;  // of a warp at a time
  static constexpr int kRows = kRowWarps * 16, kThreadsOfBlock = kRowWarps * kGroups * kWarp;
  static constexpr int kWeights = kDepth * kRing;  // of a step
  static constexpr int kStage = kGroups * kSteps * kWeights;
  static_assert(kStages * kStage * sizeof(BFloat16) >= kGroups * kRows * 2 * kRing * sizeof(float));

  static std::size_t bytes(std::int64_t D) {
    const auto depth = static_cast<std::size_t>((D + kDepth - 1) / kDepth * kDepth);
    return (static_cast<std::size_t>(kRows) * depth + kStages * std::size_t{kStage}) * sizeof(BFloat16);
  }
  // Whether a block finds room in shared memory; of an H100's an A100's part.
  static bool fits(std::int64_t D) {
    constexpr std::size_t kMostBytes = 163 * 1024;
    return bytes(D) <= kMostBytes && bytes(D) <= shared_bytes_of_block();
  }
};
using FewRows = ContractTile<2, 4, 3>;
using ManyRows = ContractTile<8, 1, 4>;

// A row of G as it arises: z, s and the sums G z and G s of a lane's slots, apart for the slot as the first
// of a pair and as its partner.
struct RingContraction {
  RingFeatures of;
  RingRow y, u, y_partner, u_partner;

  __device__ void clear() {
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) y.x[e] = u.x[e] = y_partner.x[e] = u_partner.x[e] = 0;
  }
  // To the next step, whose gradients are added next.
  __device__ void advance() {
    of.advance();
    y_partner.advance();
    u_partner.advance();
  }
  __device__ void add(int e, float gradient) {
    y.x[e] += gradient * of.z_partner.x[e];
    u.x[e] += gradient * of.s_partner.x[e];
    y_partner.x[e] -= gradient * of.z.x[e];
    u_partner.x[e] -= gradient * of.s.x[e];
  }
  // After so many steps: y = G z, u = G s.
  __device__ void finish(int steps) {
    y_partner.advance(kRing - steps);
    u_partner.advance(kRing - steps);
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) {
      y.x[e] += y_partner.x[e];
      u.x[e] += u_partner.x[e];
    }
  }
};

template <class Tile, class T>
__global__ void __launch_bounds__(Tile::kThreadsOfBlock)
    plucker_linear_contract_ring_kernel(Sizes n, Lags lags, int steps, const T* z, const T* s,
                                        const BFloat16* w, Rounded dg, float* q, float* own, Pull* pulls,
                                        bool whole) {
  constexpr int kRows = Tile::kRows, kThreadsOfBlock = Tile::kThreadsOfBlock;
  auto* const weights = dynamic_shared<BFloat16>();                    // [stages, groups, steps, depth, 32]
  BFloat16* const gradients = weights + Tile::kStages * Tile::kStage;  // [D / 32, rows, 32]
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = lane_of_warp();
  const int row_warp = warp % Tile::kRowWarps, group = warp / Tile::kRowWarps;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * kRows;
  const int depths = static_cast<int>((n.D + Tile::kDepth - 1) / Tile::kDepth);
  // Of each group of warps, which has passes · kSteps steps one after another.
  constexpr int kAtOnce = Tile::kGroups * Tile::kSteps;
  const int passes = (steps + kAtOnce - 1) / kAtOnce;

  // Unit by unit: 64 columns of two steps of every group, then the next columns, then the next two steps.
  int next_pass = 0, next_stage = 0;
  std::int64_t next_depth = 0;
  const auto bring_weights = [&] {
    if (next_pass < passes) {
      WEDGE_UNROLL
      for (int k = 0; k < kAtOnce; ++k) {
        const int step = (k / Tile::kSteps * passes + next_pass) * Tile::kSteps + k % Tile::kSteps;
        bring_tile<Tile::kDepth, kThreadsOfBlock>(thread, w + (step * n.D + next_depth) * kRing, kRing,
                                                  n.D - next_depth, step < steps,
                                                  weights + next_stage * Tile::kStage + k * Tile::kWeights);
      }
    }
    cp_async_commit();
    next_stage = (next_stage + 1) % Tile::kStages;
    next_depth += Tile::kDepth;
    if (next_depth < n.D) return;
    next_depth = 0;
    ++next_pass;
  };
  constexpr int kThreadsOfPart = kRows * 4 < kThreadsOfBlock ? kRows * 4 : kThreadsOfBlock;
  for (int p = 0; p < depths * Tile::kDepth / kRing; p += kThreadsOfBlock / kThreadsOfPart) {
    const int part = p + thread / kThreadsOfPart;
    bring_tile<kRows, kThreadsOfPart>(thread % kThreadsOfPart, dg.x + first_row * dg.pitch + part * kRing,
                                      dg.pitch, n.rows - first_row, part * kRing + thread % 4 * kChunk < n.D,
                                      gradients + part * kRows * kRing);
  }
  for (int unit = 0; unit + 1 < Tile::kStages; ++unit) bring_weights();

  RingContraction sums[2];  // of rows lane / 4 and lane / 4 + 8 of the warp
  const int first_step = group * passes * Tile::kSteps;
  WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = first_row + row_warp * 16 + half * 8 + lane / 4;
    sums[half].of.load(z + row * n.R, s + row * n.R, row < n.rows, n.R, whole);
    sums[half].of.advance(first_step);
    sums[half].clear();
  }
  int unit = 0;
  for (int pass = 0; pass < passes; ++pass) {
    float gradient[Tile::kSteps][4][4] = {};
    for (int depth = 0; depth < depths; ++depth, ++unit) {
      cp_async_wait<Tile::kStages - 2>();
      __syncthreads();
      bring_weights();
      const BFloat16* const b_tile =
          weights + unit % Tile::kStages * Tile::kStage + group * Tile::kSteps * Tile::kWeights;
      WEDGE_UNROLL
      for (int k = 0; k < Tile::kDepth; k += 16) {
        std::uint32_t a[4];
        ldmatrix_x4(a, gradients +
                           ((depth * (Tile::kDepth / kRing) + k / kRing) * kRows + row_warp * 16) * kRing +
                           place_of(lane % 16, k % kRing / kChunk + lane / 16));
        WEDGE_UNROLL
        for (int j = 0; j < 2 * Tile::kSteps; ++j) {
          std::uint32_t b[4];
          ldmatrix_x4_trans(
              b, b_tile + (j / 2 * Tile::kDepth + k) * kRing + place_of(lane % 16, j % 2 * 2 + lane / 16));
          mma_m16n8k16_bf16(gradient[j / 2][j % 2 * 2], a, b);
          mma_m16n8k16_bf16(gradient[j / 2][j % 2 * 2 + 1], a, b + 2);
        }
      }
    }
    WEDGE_UNROLL
    for (int step = 0; step < Tile::kSteps; ++step) WEDGE_UNROLL
    for (int half = 0; half < 2; ++half) {
      sums[half].advance();
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e) sums[half].add(e, gradient[step][e / 2][half * 2 + e % 2]);
    }
  }

  // The groups' sums, where the weights were: [groups, rows, y and u, 32]
  cp_async_wait<0>();
  __syncthreads();
  auto* const parts = reinterpret_cast<float*>(weights);
  WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    sums[half].finish(first_step + passes * Tile::kSteps);
    float* const part = parts + (group * kRows + row_warp * 16 + half * 8 + lane / 4) * (2 * kRing);
    sums[half].y.store(part, kRing, true);
    sums[half].u.store(part + kRing, kRing, true);
  }
  __syncthreads();
  // Four lanes a row again, the rows over all warps.
  for (int at = thread / kLanesOfRow; at < kRows; at += kThreadsOfBlock / kLanesOfRow) {
    const std::int64_t row = first_row + at, t = row % n.L;
    const bool here = row < n.rows;
    RingRow own_z, y, u;
    own_z.load(z + row * n.R, here, n.R, whole);
    y.load(parts + at * (2 * kRing), true, kRing, true);
    u.load(parts + at * (2 * kRing) + kRing, true, kRing, true);
    for (int g = 1; g < Tile::kGroups; ++g) {
      RingRow more_y, more_u;
      more_y.load(parts + (g * kRows + at) * (2 * kRing), true, kRing, true);
      more_u.load(parts + (g * kRows + at) * (2 * kRing) + kRing, true, kRing, true);
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e) {
        y.x[e] += more_y.x[e];
        u.x[e] += more_u.x[e];
      }
    }
    const RingDirection direction(own_z);
    RingRow q_row, own_row = u;
    const int seen = count_seen(lags, t);
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e)
      q_row.x[e] = seen > 0 ? -y.x[e] * direction.inverse / static_cast<float>(seen) : 0.0f;
    float with_q = 0, with_zhat = 0;
    constexpr int kTogether = 3;  // lags whose states are read before the first is used
    for (int first = 0; first < lags.count; first += kTogether) {
      RingRow v[kTogether];
      WEDGE_UNROLL
      for (int i = 0; i < kTogether; ++i) {
        const std::int64_t lag = first + i < lags.count ? lags.lag[first + i] : 0;
        const bool sees = here && first + i < lags.count && lag <= t;
        v[i].load(z + (row - (sees ? lag : 0)) * n.R, sees, n.R, whole);
      }
      WEDGE_UNROLL
      for (int i = 0; i < kTogether; ++i) {
        if (first + i >= lags.count) break;
        const RingLook look(direction, v[i]);
        float qw = 0;
        WEDGE_UNROLL
        for (int e = 0; e < kSlots; ++e) qw += q_row.x[e] * look.w.x[e];
        qw = row_sum(qw);
        if (!here || lags.lag[first + i] > t) continue;
        Pull pull{direction.norm / kEps, 0, 0};
        if (look.regular) {
          qw /= look.w_norm;
          const float c = look.a / (direction.norm * look.w_norm);
          with_q -= c;
          with_zhat -= qw / direction.norm;
          WEDGE_UNROLL
          for (int e = 0; e < kSlots; ++e) own_row.x[e] += c * qw / look.w_norm * look.w.x[e];
          pull = {1 / look.w_norm, -qw / look.w_norm / look.w_norm, look.a * direction.inverse};
        } else {
          with_q -= look.a / kEps;
        }
        if (lane % kLanesOfRow == 0) pulls[row * lags.count + first + i] = pull;
      }
    }
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) own_row.x[e] += with_q * q_row.x[e] + with_zhat * direction.zhat.x[e];
    if (here) {
      q_row.store(q + row * n.R, n.R, whole);
      own_row.store(own + row * n.R, n.R, whole);
    }
  }
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

template <class T>
void dweight_product(const Exec& exec, const Sizes& n, const T* z, const T* s, const Rounded& dg,
                     float* dweight, bool add) {
  using Tile = DweightTile;
  const int steps = ring_steps(n.R);
  const std::int64_t tiles =
      static_cast<std::int64_t>(blocks_for(n.D, Tile::kColumns)) * blocks_for(steps, Tile::kSteps);
  const std::int64_t wanted = (kDweightBlocks + tiles - 1) / tiles;
  const std::int64_t most = (n.rows + kDweightPieceRows - 1) / kDweightPieceRows;
  std::int64_t pieces = wanted < most ? wanted : most;
  const std::int64_t piece_rows =
      ((n.rows + pieces - 1) / pieces + Tile::kRows - 1) / Tile::kRows * Tile::kRows;
  pieces = (n.rows + piece_rows - 1) / piece_rows;
  const std::int64_t count = steps * n.D * kRing;
  const Scratch<float> parts(pieces * count);
  launch("plucker_linear_dweight_ring", plucker_linear_dweight_ring_kernel<T>, blocks_for(tiles * pieces, 1),
         Tile::kThreadsOfBlock, Tile::bytes<T>(), exec.stream, n, steps, piece_rows, z, s, dg, parts.data(),
         is_aligned(z, 16) && is_aligned(s, 16));
  launch("plucker_linear_from_ring", plucker_linear_from_ring_kernel, blocks_for(count, kThreads), kThreads,
         0, exec.stream, n.R, n.D, n.P, pieces, count, parts.data(), dweight, add);
}

bool contract_fits(const Sizes& n) {
  return FewRows::fits(n.D);
}

template <class T>
void contract_product(const Exec& exec, const Sizes& n, const Lags& lags, const T* z, const T* s,
                      const T* weight, const Rounded& dg, float* q, float* own, Pull* pulls) {
  const RingWeight w(exec, n, weight);
  const auto launch_tiles = [&]<class Tile>(Tile) {
    launch("plucker_linear_contract_ring", plucker_linear_contract_ring_kernel<Tile, T>,
           blocks_for(n.rows, Tile::kRows), Tile::kThreadsOfBlock, Tile::bytes(n.D), exec.stream, n, lags,
           ring_steps(n.R), z, s, w.data(), dg, q, own, pulls, whole_rows(n, z, s));
  };
  const bool many = n.rows >= kEnoughBlocks * ManyRows::kRows && ManyRows::fits(n.D);
  many ? launch_tiles(ManyRows()) : launch_tiles(FewRows());
}

#define WEDGE_INSTANTIATE(T)                                                                           \
  template void forward_product(const Exec&, const Sizes&, const T*, const T*, const T*, const T*, T*, \
                                BFloat16*);                                                            \
  template void dweight_product(const Exec&, const Sizes&, const T*, const T*, const Rounded&, float*, \
                                bool);                                                                 \
  template void contract_product(const Exec&, const Sizes&, const Lags&, const T*, const T*, const T*, \
                                 const Rounded&, float*, float*, Pull*);
WEDGE_INSTANTIATE(float)
WEDGE_INSTANTIATE(BFloat16)
#undef WEDGE_INSTANTIATE

}  // namespace wedge::cu::plucker
