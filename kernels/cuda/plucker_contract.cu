// Two kernels, with the same sums in the same order.
//   large     a warp has 16 rows of dg, which stay in shared memory, and goes through the steps of the ring
//   two
//             by two: their part of G = dg W arises in the lanes that have its slots (plucker_ring.cuh),
//             which add it to G z and G s at once.
//   small     for rows that would leave multiprocessors idle: a block has 32, and a warp all of them with two
//             steps, whose weights nobody else reads, so that warps wait for each other only at the ends. G
//             lies in shared memory then; four warps make G z of it, four G s.
// What is left of dz_t and the pulls follows in registers.
#include "kernels/cuda/plucker_products.cuh"

#include "kernels/cuda/mma_tile.cuh"

namespace wedge::cu::plucker {
namespace {

// kWarps warps, each with 16 rows.
struct LargeContract {
  static constexpr int kSteps = 2, kDepth = 64, kStages = 4, kWarps = 8;
  static constexpr int kRows = kWarps * 16, kThreadsOfBlock = kWarps * kWarp;
  static constexpr int kWeights = kSteps * kDepth * kRing;  // of a stage

  static std::size_t bytes(std::int64_t D) {
    const auto depth = static_cast<std::size_t>((D + kDepth - 1) / kDepth * kDepth);
    return (kRows * depth + kStages * kWeights) * sizeof(BFloat16);
  }
};

struct SmallContract {
  static constexpr int kRows = 32, kMma = kRows / 16, kSteps = 2, kStages = 3, kWarps = 8;
  static constexpr int kThreadsOfBlock = kWarps * kWarp;
  static constexpr int kWeights = kSteps * kTileDepth * kRing;  // of a warp's stage
  static constexpr int kStepGradients = kRows * kRing;          // of G, or of G s

  // Of the weights, and of G and G s, which come after them.
  static std::size_t shared_room(int steps) {
    const int warps = (steps + kSteps - 1) / kSteps;
    const std::size_t weights = static_cast<std::size_t>(warps) * kStages * kWeights * sizeof(BFloat16),
                      G = (static_cast<std::size_t>(steps) + 1) * kStepGradients * sizeof(float);
    return weights > G ? weights : G;
  }
  static std::size_t bytes(int steps, std::int64_t D) {
    const auto depth = static_cast<std::size_t>((D + kTileDepth - 1) / kTileDepth * kTileDepth);
    return shared_room(steps) + kRows * depth * sizeof(BFloat16);
  }
};

// A row of G x as G arises: a lane's slots of x and the sums, apart for the slot as the first of a pair and
// as its partner.
struct RingContraction {
  RingRow x, partner, sum, partner_sum;

  // Before step 1, x being there.
  __device__ void start() {
    partner = x;
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) sum.x[e] = partner_sum.x[e] = 0;
  }
  // To the next step, whose gradients are added next.
  __device__ void advance() {
    partner.advance();
    partner_sum.advance();
  }
  __device__ void add(int e, float gradient) {
    sum.x[e] += gradient * partner.x[e];
    partner_sum.x[e] -= gradient * x.x[e];
  }
  // After so many steps: sum = G x.
  __device__ void finish(int steps) {
    partner_sum.advance(kRing - steps);
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) sum.x[e] += partner_sum.x[e];
  }
};

// q, own and the pulls of a row of z, with y = G z and u = G s; all lanes of the warp must call. The rows of
// z that it looks back at are loaded kAtOnce at a time.
template <int kAtOnce, class T>
__device__ void finish_row(const Sizes& n, const Lags& lags, std::int64_t row, const RingRow& z_row,
                           const RingRow& y, const RingRow& u, const T* z, float* q, float* own, Pull* pulls,
                           bool whole) {
  const std::int64_t t = row % n.L;
  const bool here = row < n.rows;
  const RingDirection direction(z_row);
  RingRow q_row, own_row = u;
  const int seen = count_seen(lags, t);
  const float share = seen > 0 ? -direction.inverse / static_cast<float>(seen) : 0.0f;
  WEDGE_UNROLL
  for (int e = 0; e < kSlots; ++e) q_row.x[e] = y.x[e] * share;
  float with_q = 0, with_zhat = 0;
  for (int first = 0; first < lags.count; first += kAtOnce) {
    RingRow looked_at[kAtOnce];
    bool sees[kAtOnce];
    WEDGE_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      const std::int64_t lag = first + k < lags.count ? lags.lag[first + k] : 0;
      sees[k] = here && first + k < lags.count && lag <= t;
      looked_at[k].load(z + (row - lag) * n.R, sees[k], n.R, whole);
    }
    WEDGE_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      const RingLook look(direction, looked_at[k]);
      float qw = 0;
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e) qw += q_row.x[e] * look.w.x[e];
      qw = row_sum(qw);
      if (!sees[k]) continue;
      Pull pull{direction.norm * (1 / kEps), 0, 0};
      if (look.regular) {
        const float inverse = 1 / look.w_norm, slope = look.a * direction.inverse;
        const float c = slope * inverse;
        qw *= inverse;
        with_q -= c;
        with_zhat -= qw * direction.inverse;
        WEDGE_UNROLL
        for (int e = 0; e < kSlots; ++e) own_row.x[e] += c * qw * inverse * look.w.x[e];
        pull = {inverse, -qw * inverse * inverse, slope};
      } else {
        with_q -= look.a * (1 / kEps);
      }
      if (lane_of_warp() % kLanesOfRow == 0) pulls[row * lags.count + first + k] = pull;
    }
  }
  WEDGE_UNROLL
  for (int e = 0; e < kSlots; ++e) own_row.x[e] += with_q * q_row.x[e] + with_zhat * direction.zhat.x[e];
  if (!here) return;
  q_row.store(q + row * n.R, n.R, whole);
  own_row.store(own + row * n.R, n.R, whole);
}

template <class T>
__global__ void __launch_bounds__(LargeContract::kThreadsOfBlock)
    plucker_linear_contract_large_kernel(Sizes n, Lags lags, int steps, const T* z, const T* s,
                                         const BFloat16* w, Rounded dg, float* q, float* own, Pull* pulls,
                                         bool whole) {
  using Tile = LargeContract;
  constexpr int kRows = Tile::kRows, kThreadsOfBlock = Tile::kThreadsOfBlock;
  auto* const weights = dynamic_shared<BFloat16>();                      // [stages, steps, depth, 32]
  BFloat16* const gradients = weights + Tile::kStages * Tile::kWeights;  // [D / 32, rows, 32]
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = lane_of_warp();
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * kRows;
  const int depths = static_cast<int>((n.D + Tile::kDepth - 1) / Tile::kDepth);
  const int passes = (steps + Tile::kSteps - 1) / Tile::kSteps;

  // Unit by unit: 64 columns of two steps, then the next columns, then the next two steps.
  int next_step = 0, next_stage = 0;
  std::int64_t next_depth = 0;
  const auto bring_weights = [&] {
    WEDGE_UNROLL
    for (int step = 0; step < Tile::kSteps; ++step)
      if (next_step < steps)
        bring_tile<Tile::kDepth, kThreadsOfBlock>(
            thread, w + ((next_step + step) * n.D + next_depth) * kRing, kRing, n.D - next_depth,
            next_step + step < steps, weights + next_stage * Tile::kWeights + step * Tile::kDepth * kRing);
    cp_async_commit();
    next_stage = (next_stage + 1) % Tile::kStages;
    next_depth += Tile::kDepth;
    if (next_depth < n.D) return;
    next_depth = 0;
    next_step += Tile::kSteps;
  };
  for (int part = 0; part < depths * Tile::kDepth / kRing; ++part)
    bring_tile<kRows, kThreadsOfBlock>(thread, dg.x + first_row * dg.pitch + part * kRing, dg.pitch,
                                       n.rows - first_row, part * kRing + thread % 4 * kChunk < n.D,
                                       gradients + part * kRows * kRing);
  for (int unit = 0; unit + 1 < Tile::kStages; ++unit) bring_weights();

  RingContraction y[2], u[2];  // of rows lane / 4 and lane / 4 + 8 of the warp
  WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = first_row + warp * 16 + half * 8 + lane / 4;
    y[half].x.load(z + row * n.R, row < n.rows, n.R, whole);
    u[half].x.load(s + row * n.R, row < n.rows, n.R, whole);
    y[half].start();
    u[half].start();
  }
  int unit = 0;
  for (int pass = 0; pass < passes; ++pass) {
    float gradient[Tile::kSteps][4][4] = {};
    for (int depth = 0; depth < depths; ++depth, ++unit) {
      cp_async_wait<Tile::kStages - 2>();
      __syncthreads();
      bring_weights();
      const BFloat16* const b_tile = weights + unit % Tile::kStages * Tile::kWeights;
      WEDGE_UNROLL
      for (int k = 0; k < Tile::kDepth; k += 16) {
        std::uint32_t a[4];
        ldmatrix_x4(a, gradients +
                           ((depth * (Tile::kDepth / kRing) + k / kRing) * kRows + warp * 16) * kRing +
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
      y[half].advance();
      u[half].advance();
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e) {
        y[half].add(e, gradient[step][e / 2][half * 2 + e % 2]);
        u[half].add(e, gradient[step][e / 2][half * 2 + e % 2]);
      }
    }
  }

  WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    y[half].finish(passes * Tile::kSteps);
    u[half].finish(passes * Tile::kSteps);
    finish_row<2>(n, lags, first_row + warp * 16 + half * 8 + lane / 4, y[half].x, y[half].sum, u[half].sum,
                  z, q, own, pulls, whole);
  }
}

// room: of SmallContract::shared_room, in bytes.
template <class T>
__global__ void __launch_bounds__(SmallContract::kThreadsOfBlock)
    plucker_linear_contract_small_kernel(Sizes n, Lags lags, int steps, std::size_t room, const T* z,
                                         const T* s, const BFloat16* w, Rounded dg, float* q, float* own,
                                         Pull* pulls, bool whole) {
  using Tile = SmallContract;
  auto* const shared = dynamic_shared<char>();
  auto* const weights = reinterpret_cast<BFloat16*>(shared);           // [warps, stages, steps, 32, 32]
  auto* const gradients = reinterpret_cast<BFloat16*>(shared + room);  // [D / 32, rows, 32]
  auto* const G = reinterpret_cast<float4*>(shared);  // [steps, halves of a lane's slots, rows, lanes]
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = lane_of_warp();
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * Tile::kRows;
  const int depths = static_cast<int>((n.D + kTileDepth - 1) / kTileDepth);
  const int first_step = warp * Tile::kSteps;

  BFloat16* const own_weights = weights + warp * Tile::kStages * Tile::kWeights;
  const auto bring_weights = [&](int depth) {
    if (depth < depths && first_step < steps) {
      const std::int64_t d = static_cast<std::int64_t>(depth) * kTileDepth;
      WEDGE_UNROLL
      for (int step = 0; step < Tile::kSteps; ++step)
        bring_tile<kTileDepth, kWarp>(
            lane, w + ((first_step + step) * n.D + d) * kRing, kRing, n.D - d, first_step + step < steps,
            own_weights + depth % Tile::kStages * Tile::kWeights + step * kTileDepth * kRing);
    }
    cp_async_commit();
  };
  constexpr int kThreadsOfPart = Tile::kRows * 4;
  for (int part = thread / kThreadsOfPart; part < depths; part += Tile::kThreadsOfBlock / kThreadsOfPart)
    bring_tile<Tile::kRows, kThreadsOfPart>(thread % kThreadsOfPart,
                                            dg.x + first_row * dg.pitch + part * kTileDepth, dg.pitch,
                                            n.rows - first_row, part * kTileDepth + thread % 4 * kChunk < n.D,
                                            gradients + part * Tile::kRows * kTileDepth);
  for (int depth = 0; depth + 1 < Tile::kStages; ++depth) bring_weights(depth);

  // Warps 0 to 3 have eight rows of z each, the others those of s.
  const bool of_s = warp >= Tile::kWarps / 2;
  const int own_row = warp % (Tile::kWarps / 2) * 8 + lane / kLanesOfRow;
  const std::int64_t row = first_row + own_row;
  RingContraction sums;
  sums.x.load((of_s ? s : z) + row * n.R, row < n.rows, n.R, whole);

  cp_async_wait<Tile::kStages - 2>();
  __syncthreads();  // dg is there
  float gradient[Tile::kMma][4 * Tile::kSteps][4] = {};
  for (int depth = 0; depth < depths && first_step < steps; ++depth) {
    cp_async_wait<Tile::kStages - 2>();
    // The warp's weights are there, and no lane reads those any more that are written over next.
    __syncwarp();
    bring_weights(depth + Tile::kStages - 1);
    const BFloat16* const a_tile = gradients + depth * Tile::kRows * kTileDepth;
    const BFloat16* const b_tile = own_weights + depth % Tile::kStages * Tile::kWeights;
    WEDGE_UNROLL
    for (int k = 0; k < kTileDepth; k += 16) {
      std::uint32_t a[Tile::kMma][4];
      WEDGE_UNROLL
      for (int i = 0; i < Tile::kMma; ++i)
        ldmatrix_x4(a[i], a_tile + i * 16 * kTileDepth + place_of(lane % 16, k / kChunk + lane / 16));
      WEDGE_UNROLL
      for (int j = 0; j < 2 * Tile::kSteps; ++j) {
        std::uint32_t b[4];
        ldmatrix_x4_trans(
            b, b_tile + (j / 2 * kTileDepth + k) * kRing + place_of(lane % 16, j % 2 * 2 + lane / 16));
        WEDGE_UNROLL
        for (int i = 0; i < Tile::kMma; ++i) {
          mma_m16n8k16_bf16(gradient[i][2 * j], a[i], b);
          mma_m16n8k16_bf16(gradient[i][2 * j + 1], a[i], b + 2);
        }
      }
    }
  }
  __syncthreads();  // nobody reads weights any more

  const auto place_in_G = [&](int step, int half, int place) {
    return ((step * 2 + half) * Tile::kRows + place) * kLanesOfRow + lane % kLanesOfRow;
  };
  WEDGE_UNROLL
  for (int step = 0; step < Tile::kSteps; ++step) {
    if (first_step + step >= steps) break;
    WEDGE_UNROLL
    for (int i = 0; i < Tile::kMma; ++i) WEDGE_UNROLL
    for (int r = 0; r < 2; ++r) WEDGE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const auto& low = gradient[i][step * 4 + half * 2];
      const auto& high = gradient[i][step * 4 + half * 2 + 1];
      G[place_in_G(first_step + step, half, i * 16 + r * 8 + lane / kLanesOfRow)] =
          make_float4(low[2 * r], low[2 * r + 1], high[2 * r], high[2 * r + 1]);
    }
  }
  __syncthreads();

  sums.start();
  for (int first = 0; first < steps; first += 4) {
    float4 of_steps[4][2];
    WEDGE_UNROLL
    for (int step = 0; step < 4; ++step) WEDGE_UNROLL
    for (int half = 0; half < 2; ++half)
      of_steps[step][half] = first + step < steps ? G[place_in_G(first + step, half, own_row)] : float4{};
    WEDGE_UNROLL
    for (int step = 0; step < 4; ++step) {
      sums.advance();
      WEDGE_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float4& g = of_steps[step][half];
        sums.add(half * 4, g.x);
        sums.add(half * 4 + 1, g.y);
        sums.add(half * 4 + 2, g.z);
        sums.add(half * 4 + 3, g.w);
      }
    }
  }
  sums.finish((steps + 3) / 4 * 4);

  float4* const to = G + place_in_G(steps, 0, own_row);  // after G
  constexpr int kHalf = Tile::kRows * kLanesOfRow;
  if (of_s) {
    to[0] = make_float4(sums.sum.x[0], sums.sum.x[1], sums.sum.x[2], sums.sum.x[3]);
    to[kHalf] = make_float4(sums.sum.x[4], sums.sum.x[5], sums.sum.x[6], sums.sum.x[7]);
  }
  __syncthreads();
  if (of_s) return;
  const float4 low = to[0], high = to[kHalf];
  const RingRow u{{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
  finish_row<4>(n, lags, row, sums.x, sums.sum, u, z, q, own, pulls, whole);
}

// Whether a block finds room in shared memory; of an H100's an A100's part.
bool finds_room(std::size_t bytes) {
  constexpr std::size_t kMostBytes = 163 * 1024;
  return bytes <= kMostBytes && bytes <= shared_bytes_of_block();
}

}  // namespace

bool contract_fits(const Sizes& n) {
  return finds_room(SmallContract::bytes(ring_steps(n.R), n.D));
}

template <class T>
void contract_product(const Exec& exec, const Sizes& n, const Lags& lags, const T* z, const T* s,
                      const BFloat16* w, const Rounded& dg, float* q, float* own, Pull* pulls) {
  const int steps = ring_steps(n.R);
  const bool whole = whole_rows(n, z, s);
  using Large = LargeContract;
  using Small = SmallContract;
  if (n.rows >= kEnoughBlocks * Large::kRows && finds_room(Large::bytes(n.D)))
    launch("plucker_linear_contract_large", plucker_linear_contract_large_kernel<T>,
           blocks_for(n.rows, Large::kRows), Large::kThreadsOfBlock, Large::bytes(n.D), exec.stream, n, lags,
           steps, z, s, w, dg, q, own, pulls, whole);
  else
    launch("plucker_linear_contract_small", plucker_linear_contract_small_kernel<T>,
           blocks_for(n.rows, Small::kRows), Small::kThreadsOfBlock, Small::bytes(steps, n.D), exec.stream, n,
           lags, steps, Small::shared_room(steps), z, s, w, dg, q, own, pulls, whole);
}

#define WEDGE_INSTANTIATE(T)                                                                 \
  template void contract_product(const Exec&, const Sizes&, const Lags&, const T*, const T*, \
                                 const BFloat16*, const Rounded&, float*, float*, Pull*);
WEDGE_INSTANTIATE(float)
WEDGE_INSTANTIATE(BFloat16)
#undef WEDGE_INSTANTIATE

}  // namespace wedge::cu::plucker
