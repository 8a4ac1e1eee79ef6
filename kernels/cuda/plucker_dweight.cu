// Tiles of 128 columns of dg and some steps of the ring, over pieces of the rows, whose sums a second kernel
// adds in order. A chunk of rows at a time: dg and, as they lie, z and s arrive four deep, and features are
// made of the next rows while the tensor cores work on these. Tiles have eight steps and chunks of 32 rows;
// four steps and 64 rows, where that gives work to more multiprocessors without more sums to add.
#include "kernels/cuda/plucker_products.cuh"

#include "kernels/cuda/mma_tile.cuh"

namespace wedge::cu::plucker {
namespace {

constexpr std::int64_t kPieceRows = 128;        // at least
constexpr std::int64_t kMultiprocessors = 132;  // of an H100 or H200; one block has room there
constexpr int kStepsEach = 4;                   // of a row that a lane makes

// parts [pieces, steps, D, 32] = the pieces' parts of dgᵀ F.
template <int kSteps_, int kRows_>
struct DweightTile {
  static constexpr int kColumns = 128, kSteps = kSteps_, kRows = kRows_, kStages = 4, kThreadsOfBlock = 256;
  static constexpr int kMma = 4, kWarpSteps = kSteps / 4, kPairs = 2 * kWarpSteps;  // two down, four across
  static constexpr int kGradients = kRows * kColumns, kFeatures = kRows * kSteps * kRing;
  static constexpr int kRaw = kRows * kRing;  // of z or s
  static_assert(kRows * kLanesOfRow * kSteps == kThreadsOfBlock * kStepsEach);

  template <class T>
  static constexpr std::size_t bytes() {
    return kStages * (kGradients * sizeof(BFloat16) + 2 * kRaw * sizeof(T)) +
           2 * kFeatures * sizeof(BFloat16);
  }
};
using SmallTile = DweightTile<4, 64>;
using LargeTile = DweightTile<8, 32>;

// Where slot k of a row lies among rows of R. Whole rows of float32 start all in one bank: odd ones have
// their 16 bytes swapped in pairs, so that the lanes of two rows read 16 bytes each without conflict.
template <class T>
__device__ int place_of_raw(int row, int k, int R) {
  return row * R + (std::is_same_v<T, float> && R == kRing ? k ^ (row % 2 * 4) : k);
}

// to [kRows, R] = the rows of x from `row` on, zeros from `end` on. row · R elements are a multiple of 16
// bytes.
template <class Tile, class T>
__device__ void bring_rows(const T* x, std::int64_t row, std::int64_t end, int R, bool aligned, T* to) {
  constexpr int kAtOnce = 16 / sizeof(T);
  const T* const from = x + row * R;
  const std::int64_t left = (end - row) * R;
  for (int k = static_cast<int>(threadIdx.x) * kAtOnce; k < Tile::kRows * R;
       k += Tile::kThreadsOfBlock * kAtOnce) {
    T* const place = R == kRing ? to + place_of_raw<T>(k / kRing, k % kRing, R) : to + k;
    if (aligned && (left >= k + kAtOnce || left <= k)) {
      cp_async_16(place, from + k, left > k);
    } else {
      for (int i = 0; i < kAtOnce; ++i) place[i] = k + i < left ? from[k + i] : from_float<T>(0.0f);
    }
  }
}

// x [4 kFours] = slots first, first + 1, ... around the ring of a row in shared memory; first is a multiple
// of 4.
template <int kFours, class T>
__device__ void read_slots(const T* rows, int row, int first, int R, float* x) {
  WEDGE_UNROLL
  for (int k = 0; k < 4 * kFours; k += 4) {
    const int slot = (first + k) % kRing;
    if (R == kRing) {
      const auto four = *reinterpret_cast<const Pack<T, 4>*>(rows + place_of_raw<T>(row, slot, R));
      WEDGE_UNROLL
      for (int i = 0; i < 4; ++i) x[k + i] = to_float(four.v[i]);
    } else {
      WEDGE_UNROLL
      for (int i = 0; i < 4; ++i)
        x[k + i] = slot + i < R ? to_float(rows[place_of_raw<T>(row, slot + i, R)]) : 0.0f;
    }
  }
}

template <class Tile, class T>
__global__ void __launch_bounds__(Tile::kThreadsOfBlock)
    plucker_linear_dweight_ring_kernel(Sizes n, int steps, std::int64_t piece_rows, const T* z, const T* s,
                                       Rounded dg, float* parts, bool aligned) {
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
      bring_rows<Tile>(z, row, end, n.R, aligned, raw_z);
      bring_rows<Tile>(s, row, end, n.R, aligned, raw_z + Tile::kRaw);
    }
    cp_async_commit();
  };
  // A lane's slots of a row, in kStepsEach steps: their partners are as many slots more.
  const auto make_features = [&](int chunk) {
    const int row = thread / kLanesOfRow % Tile::kRows, slot = thread % kLanesOfRow * kSlots;
    const int own_step = thread / (kLanesOfRow * Tile::kRows) * kStepsEach;
    const T* const raw_z = raw + chunk % Tile::kStages * 2 * Tile::kRaw;
    const T* const raw_s = raw_z + Tile::kRaw;
    BFloat16* const to = features + chunk % 2 * Tile::kFeatures + thread % kLanesOfRow * 2;
    constexpr int kFours = kSlots / 4, kPartnerFours = (kSlots + kStepsEach) / 4;
    float own_z[4 * kFours], own_s[4 * kFours], z_ahead[4 * kPartnerFours], s_ahead[4 * kPartnerFours];
    read_slots<kFours>(raw_z, row, slot, n.R, own_z);
    read_slots<kFours>(raw_s, row, slot, n.R, own_s);
    read_slots<kPartnerFours>(raw_z, row, slot + first_step + own_step, n.R, z_ahead);
    read_slots<kPartnerFours>(raw_s, row, slot + first_step + own_step, n.R, s_ahead);
    WEDGE_UNROLL
    for (int step = 0; step < kStepsEach; ++step) WEDGE_UNROLL
    for (int e = 0; e < kSlots; e += 2) {
      const int p = e + step + 1;  // the first one's partner; step + 1 slots ahead
      *reinterpret_cast<std::uint32_t*>(to + (own_step + step) * Tile::kRows * kRing + place_of(row, e / 2)) =
          pack_bf16(own_z[e] * s_ahead[p] - z_ahead[p] * own_s[e],
                    own_z[e + 1] * s_ahead[p + 1] - z_ahead[p + 1] * own_s[e + 1]);
    }
  };
  for (int chunk = 0; chunk + 1 < Tile::kStages; ++chunk) bring(chunk);
  cp_async_wait<Tile::kStages - 2>();
  __syncthreads();
  make_features(0);

  const int warp_part = warp / 4 * 2, warp_step = warp % 4 * Tile::kWarpSteps;  // 64 columns
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
  constexpr int kAtOnce = 16;  // loads on their way
  for (std::int64_t at = thread_in_grid(); at < count; at += threads_in_grid()) {
    const std::int64_t d = at / kRing % D;
    const RingPair pair(ring_slot(static_cast<int>(at % kRing)), 1 + static_cast<int>(at / kRing / D), R);
    if (pair.feature < 0) continue;
    float sum = 0;
    for (std::int64_t piece = 0; piece < pieces; piece += kAtOnce) {
      float part[kAtOnce];
      WEDGE_UNROLL
      for (int k = 0; k < kAtOnce; ++k) part[k] = piece + k < pieces ? parts[(piece + k) * count + at] : 0.0f;
      WEDGE_UNROLL
      for (int k = 0; k < kAtOnce; ++k) sum += part[k];
    }
    put(out + d * P + pair.feature, pair.negative ? -sum : sum, add);
  }
}

}  // namespace

template <class T>
void dweight_product(const Exec& exec, const Sizes& n, const T* z, const T* s, const Rounded& dg,
                     float* dweight, bool add) {
  const int steps = ring_steps(n.R);
  const auto tiles_of = [&]<class Tile>(Tile) {
    return static_cast<std::int64_t>(blocks_for(n.D, Tile::kColumns)) * blocks_for(steps, Tile::kSteps);
  };
  const std::int64_t most = (n.rows + kPieceRows - 1) / kPieceRows;
  const bool small =
      tiles_of(LargeTile()) * (most / 2) < kEnoughBlocks && SmallTile::bytes<T>() <= shared_bytes_of_block();
  const std::int64_t tiles = small ? tiles_of(SmallTile()) : tiles_of(LargeTile());
  const std::int64_t wanted = tiles < kMultiprocessors ? kMultiprocessors / tiles : 1;
  std::int64_t pieces = wanted < most ? wanted : most;
  const std::int64_t chunk = small ? SmallTile::kRows : LargeTile::kRows;
  const std::int64_t piece_rows = ((n.rows + pieces - 1) / pieces + chunk - 1) / chunk * chunk;
  pieces = (n.rows + piece_rows - 1) / piece_rows;
  const std::int64_t count = steps * n.D * kRing;
  const Scratch<float> parts(pieces * count);
  const auto launch_tiles = [&]<class Tile>(Tile) {
    launch("plucker_linear_dweight_ring", plucker_linear_dweight_ring_kernel<Tile, T>,
           blocks_for(tiles * pieces, 1), Tile::kThreadsOfBlock, Tile::template bytes<T>(), exec.stream, n,
           steps, piece_rows, z, s, dg, parts.data(), is_aligned(z, 16) && is_aligned(s, 16));
  };
  small ? launch_tiles(SmallTile()) : launch_tiles(LargeTile());
  launch("plucker_linear_from_ring", plucker_linear_from_ring_kernel, blocks_for(count, kThreads), kThreads,
         0, exec.stream, n.R, n.D, n.P, pieces, count, parts.data(), dweight, add);
}

#define WEDGE_INSTANTIATE(T) \
  template void dweight_product(const Exec&, const Sizes&, const T*, const T*, const Rounded&, float*, bool);
WEDGE_INSTANTIATE(float)
WEDGE_INSTANTIATE(BFloat16)
#undef WEDGE_INSTANTIATE

}  // namespace wedge::cu::plucker
