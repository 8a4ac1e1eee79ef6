// dweight (+)= dgᵀ F. Layout: tiles of 128 columns of dg and some steps of the ring, over pieces of the rows,
// whose sums a second kernel adds in order. Some rows at a time: dg and, as they lie, z and s arrive four
// deep, and features are made of the next rows while the tensor cores work on these.
//
// A tile of eight steps reads dg, z and s half as often as one of four, which for as many blocks needs half
// the pieces: the sums of pieces outweigh few rows, and with them its blocks' rows are all in flight at once.
#include <algorithm>

#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/plucker_products.cuh"

namespace wedge::cu::plucker {
namespace {

static_assert(kTileDepth == kRing);

constexpr std::int64_t kPieceRows = 128;   // of a piece, at least
constexpr std::int64_t kMostBlocks = 132;  // of an H100 or H200, one a multiprocessor
constexpr std::int64_t kFewRows = 8192;    // up to which the smaller tile moves fewer bytes

template <int kSteps_, int kRows_>
struct DweightTile {
  static constexpr int kSteps = kSteps_, kRows = kRows_;
  static constexpr int kColumns = 128, kStages = 4, kThreadsOfBlock = 256;
  static constexpr int kMma = 4, kPairs = kSteps / 2;                // of a warp, two down and four across
  static constexpr int kStepsOfWarp = kSteps / 4, kStepsOfLane = 4;  // whose products, whose features
  static constexpr int kGradients = kRows * kColumns, kFeatures = kRows * kSteps * kRing;
  static constexpr int kRaw = kRows * kRing;  // of z or s
  static_assert(kSteps * kRows * kLanesOfRow == kThreadsOfBlock * kStepsOfLane);

  static std::int64_t step_tiles(int steps) { return blocks_for(steps, kSteps); }
  static std::int64_t tiles(std::int64_t D, int steps) { return blocks_for(D, kColumns) * step_tiles(steps); }
  // Sums of a piece: [tiles, warps, kMma, 2 kPairs, lanes], four each, as the tensor cores have them.
  static constexpr int kFours = kColumns * kSteps * kRing / 4;  // of a tile
  template <class T>
  static constexpr std::size_t bytes() {
    return kStages * (kGradients * sizeof(BFloat16) + 2 * kRaw * sizeof(T)) +
           2 * kFeatures * sizeof(BFloat16);
  }
};

using FewRows = DweightTile<4, 64>;
using ManyRows = DweightTile<8, 32>;

// to [kRows, R] = the rows of x from `row` on, as they lie, zeros from `end` on. row · R elements are a
// multiple of 16 bytes.
template <class Tile, class T>
__device__ void bring_rows(const T* x, std::int64_t row, std::int64_t end, int R, bool aligned, T* to) {
  constexpr int kAtOnce = 16 / sizeof(T);
  const T* const from = x + row * R;
  const std::int64_t left = (end - row) * R;
  for (int k = static_cast<int>(threadIdx.x) * kAtOnce; k < Tile::kRows * R;
       k += Tile::kThreadsOfBlock * kAtOnce) {
    if (aligned && (left >= k + kAtOnce || left <= k)) {
      cp_async_16(to + k, from + k, left > k);
    } else {
      for (int i = k; i < k + kAtOnce; ++i) to[i] = i < left ? from[i] : from_float<T>(0.0f);
    }
  }
}

template <class Tile, class T>
__global__ void __launch_bounds__(Tile::kThreadsOfBlock)
    plucker_linear_dweight_ring_kernel(Sizes n, int steps, std::int64_t piece_rows, const T* z, const T* s,
                                       Rounded dg, float4* parts, bool aligned) {
  auto* const features = dynamic_shared<BFloat16>();           // [2, steps, rows, 32]
  BFloat16* const gradients = features + 2 * Tile::kFeatures;  // [stages, columns / 32, rows, 32]
  T* const raw =
      reinterpret_cast<T*>(gradients + Tile::kStages * Tile::kGradients);  // [stages, z and s, rows, R]
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = lane_of_warp();
  // Blocks of the same rows are neighbours.
  const int step_tiles = ceil_div(steps, Tile::kSteps);
  const std::int64_t tiles = ceil_div(n.D, Tile::kColumns) * step_tiles;
  const std::int64_t piece = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const std::int64_t first_column = tile / step_tiles * Tile::kColumns;
  const int first_step = static_cast<int>(tile % step_tiles) * Tile::kSteps;
  const std::int64_t first = piece * piece_rows;
  const std::int64_t end = first + piece_rows < n.rows ? first + piece_rows : n.rows;
  const int chunks = static_cast<int>(ceil_div(end - first, Tile::kRows));

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
      bring_rows<Tile>(z, row, end, n.R, aligned, raw_z);
      bring_rows<Tile>(s, row, end, n.R, aligned, raw_z + Tile::kRaw);
    }
    cp_async_commit();
  };
  const auto make_features = [&](int chunk) {
    const int row = thread / kLanesOfRow % Tile::kRows;
    const int own_step = thread / (kLanesOfRow * Tile::kRows) * Tile::kStepsOfLane;
    const T* const raw_z = raw + chunk % Tile::kStages * 2 * Tile::kRaw;
    BFloat16* const to = features + chunk % 2 * Tile::kFeatures + thread % kLanesOfRow * 2;
    RingFeatures made;
    made.load_ahead(raw_z + row * n.R, raw_z + Tile::kRaw + row * n.R, n.R, first_step + own_step);
    WEDGE_UNROLL
    for (int k = 0; k < Tile::kStepsOfLane; ++k) {
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

  const int warp_part = warp / 4 * 2, warp_step = warp % 4 * Tile::kStepsOfWarp;  // 64 columns
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

  float4* const to = parts + static_cast<std::int64_t>(blockIdx.x) * Tile::kFours +
                     warp * (Tile::kMma * 2 * Tile::kPairs * kWarp) + lane;
  WEDGE_UNROLL
  for (int i = 0; i < Tile::kMma; ++i) WEDGE_UNROLL
  for (int j = 0; j < 2 * Tile::kPairs; ++j)
    to[(i * 2 * Tile::kPairs + j) * kWarp] =
        make_float4(sums[i][j][0], sums[i][j][1], sums[i][j][2], sums[i][j][3]);
}

// out [D, P] (+)= Σ over pieces of parts, in order. A thread has four sums: of two columns of the ring in two
// rows.
template <class Tile>
__global__ void __launch_bounds__(kThreads, 1)  // or registers are saved by reading half as many at once
    plucker_linear_from_ring_kernel(int R, std::int64_t D, int P, std::int64_t step_tiles,
                                    std::int64_t pieces, std::int64_t count, const float4* parts, float* out,
                                    bool add) {
  const std::int64_t at = thread_in_grid();
  if (at >= count) return;
  const int of_tile = static_cast<int>(at % Tile::kFours), lane = of_tile % kWarp;
  const int j = of_tile / kWarp % (2 * Tile::kPairs), i = of_tile / (kWarp * 2 * Tile::kPairs) % Tile::kMma;
  const int warp = of_tile / (kWarp * 2 * Tile::kPairs * Tile::kMma);
  const std::int64_t tile = at / Tile::kFours;
  const std::int64_t d = tile / step_tiles * Tile::kColumns + warp / 4 * 2 * kRing + i * 16 + lane / 4;
  const int step = static_cast<int>(tile % step_tiles) * Tile::kSteps + warp % 4 * Tile::kStepsOfWarp + j / 4;
  if (d >= D || step >= ring_steps(R)) return;

  float sums[4] = {};
  const auto sum_up = [&](const float4& part) {
    sums[0] += part.x;
    sums[1] += part.y;
    sums[2] += part.z;
    sums[3] += part.w;
  };
  const float4* from = parts + at;
  constexpr int kAtOnce = 8;  // pieces that are read before the first is added
  for (; pieces >= kAtOnce; pieces -= kAtOnce, from += kAtOnce * count) {
    float4 part[kAtOnce];
    WEDGE_UNROLL
    for (int k = 0; k < kAtOnce; ++k) part[k] = from[k * count];
    WEDGE_UNROLL
    for (int k = 0; k < kAtOnce; ++k) sum_up(part[k]);
  }
  for (; pieces > 0; --pieces, from += count) sum_up(*from);
  WEDGE_UNROLL
  for (int e = 0; e < 4; ++e) {
    const RingPair pair(ring_slot(j % 4 * 8 + lane % 4 * 2 + e % 2), 1 + step, R);
    const std::int64_t row = d + e / 2 * 8;
    if (pair.feature >= 0 && row < D)
      put(out + row * P + pair.feature, pair.negative ? -sums[e] : sums[e], add);
  }
}

template <class Tile, class T>
void launch_tiles(const Exec& exec, const Sizes& n, const T* z, const T* s, const Rounded& dg, float* dweight,
                  bool add) {
  const int steps = ring_steps(n.R);
  const std::int64_t tiles = Tile::tiles(n.D, steps), most = ceil_div(n.rows, kPieceRows);
  std::int64_t pieces = std::clamp<std::int64_t>(kMostBlocks / tiles, 1, most);
  const std::int64_t piece_rows = round_up(ceil_div(n.rows, pieces), Tile::kRows);
  pieces = ceil_div(n.rows, piece_rows);
  const std::int64_t count = tiles * Tile::kFours;
  const Scratch<float4> parts(pieces * count);
  launch("plucker_linear_dweight_ring", plucker_linear_dweight_ring_kernel<Tile, T>,
         blocks_for(tiles * pieces, 1), Tile::kThreadsOfBlock, Tile::template bytes<T>(), exec.stream, n,
         steps, piece_rows, z, s, dg, parts.data(), all_aligned(16, z, s));
  launch("plucker_linear_from_ring", plucker_linear_from_ring_kernel<Tile>, blocks_for(count, kThreads),
         kThreads, 0, exec.stream, n.R, n.D, n.P, Tile::step_tiles(steps), pieces, count, parts.data(),
         dweight, add);
}

}  // namespace

template <class T>
void dweight_product(const Exec& exec, const Sizes& n, const T* z, const T* s, const Rounded& dg,
                     float* dweight, bool add) {
  const bool few = n.rows <= kFewRows && FewRows::bytes<T>() <= shared_bytes_of_block();
  const auto launch_them = few ? launch_tiles<FewRows, T> : launch_tiles<ManyRows, T>;
  launch_them(exec, n, z, s, dg, dweight, add);
}

template void dweight_product(const Exec&, const Sizes&, const float*, const float*, const Rounded&, float*,
                              bool);
template void dweight_product(const Exec&, const Sizes&, const BFloat16*, const BFloat16*, const Rounded&,
                              float*, bool);

}  // namespace wedge::cu::plucker
