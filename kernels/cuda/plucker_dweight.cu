// dweight (+)= dgᵀ F. Layout: tiles of 128 columns of dg and eight steps of the ring, over pieces of the
// rows, whose sums a second kernel adds in order. 32 rows at a time: dg and, as they lie, z and s arrive four
// deep, and features are made of the next rows while the tensor cores work on these.
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/plucker_products.cuh"

namespace wedge::cu::plucker {
namespace {

static_assert(kTileDepth == kRing);

constexpr std::int64_t kPieceRows = 128;   // of a piece, at least
constexpr std::int64_t kMostBlocks = 132;  // where the pieces are longer

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

}  // namespace

template <class T>
void dweight_product(const Exec& exec, const Sizes& n, const T* z, const T* s, const Rounded& dg,
                     float* dweight, bool add) {
  using Tile = DweightTile;
  const int steps = ring_steps(n.R);
  const std::int64_t tiles =
      static_cast<std::int64_t>(blocks_for(n.D, Tile::kColumns)) * blocks_for(steps, Tile::kSteps);
  const std::int64_t wanted = (kMostBlocks + tiles - 1) / tiles;
  const std::int64_t most = (n.rows + kPieceRows - 1) / kPieceRows;
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

template void dweight_product(const Exec&, const Sizes&, const float*, const float*, const Rounded&, float*,
                              bool);
template void dweight_product(const Exec&, const Sizes&, const BFloat16*, const BFloat16*, const Rounded&,
                              float*, bool);

}  // namespace wedge::cu::plucker
