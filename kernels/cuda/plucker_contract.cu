// A warp has 16 rows of dg, which stay in shared memory, and goes through the steps of the ring two by two:
// their part of G = dg W arises in the lanes that have its slots (plucker_ring.cuh), which add it to G z and
// G s at once. What is left of dz_t and the pulls follows in registers.
#include "kernels/cuda/plucker_products.cuh"

#include "kernels/cuda/mma_tile.cuh"

namespace wedge::cu::plucker {
namespace {

// q and own [rows, R] =, pulls [rows, lags] = for the lags that a row has.
struct ContractTile {
  static constexpr int kSteps = 2, kDepth = 64, kStages = 4;
  static constexpr int kWeights = kSteps * kDepth * kRing;  // of a stage
  static constexpr int kSmall = 4, kLarge = 8;              // warps of a block, each with 16 rows

  static std::size_t bytes(int warps, std::int64_t D) {
    const auto depth = static_cast<std::size_t>((D + kDepth - 1) / kDepth * kDepth);
    return (static_cast<std::size_t>(warps) * 16 * depth + kStages * kWeights) * sizeof(BFloat16);
  }
};

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

template <int kBlockWarps, class T>
__global__ void __launch_bounds__(kBlockWarps* kWarp)
    plucker_linear_contract_ring_kernel(Sizes n, Lags lags, int steps, const T* z, const T* s,
                                        const BFloat16* w, Rounded dg, float* q, float* own, Pull* pulls,
                                        bool whole) {
  using Tile = ContractTile;
  constexpr int kRows = kBlockWarps * 16, kThreadsOfBlock = kBlockWarps * kWarp;
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

  RingContraction sums[2];  // of rows lane / 4 and lane / 4 + 8 of the warp
  WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = first_row + warp * 16 + half * 8 + lane / 4;
    sums[half].of.load(z + row * n.R, s + row * n.R, row < n.rows, n.R, whole);
    sums[half].clear();
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
      sums[half].advance();
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e) sums[half].add(e, gradient[step][e / 2][half * 2 + e % 2]);
    }
  }

  WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = first_row + warp * 16 + half * 8 + lane / 4, t = row % n.L;
    sums[half].finish(passes * Tile::kSteps);
    const bool here = row < n.rows;
    const RingDirection direction(sums[half].of.z);
    RingRow q_row, own_row = sums[half].u;
    const int seen = count_seen(lags, t);
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e)
      q_row.x[e] = seen > 0 ? -sums[half].y.x[e] * direction.inverse / static_cast<float>(seen) : 0.0f;
    float with_q = 0, with_zhat = 0;
    for (int k = 0; k < lags.count; ++k) {
      const bool sees = here && lags.lag[k] <= t;
      RingRow v;
      v.load(z + (row - lags.lag[k]) * n.R, sees, n.R, whole);
      const RingLook look(direction, v);
      float qw = 0;
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e) qw += q_row.x[e] * look.w.x[e];
      qw = row_sum(qw);
      if (!sees) continue;
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
      if (lane % kLanesOfRow == 0) pulls[row * lags.count + k] = pull;
    }
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) own_row.x[e] += with_q * q_row.x[e] + with_zhat * direction.zhat.x[e];
    if (here) {
      q_row.store(q + row * n.R, n.R, whole);
      own_row.store(own + row * n.R, n.R, whole);
    }
  }
}

// Whether a block of so many warps finds room in shared memory; of an H100's an A100's part.
bool contract_fits(int warps, std::int64_t D) {
  constexpr std::size_t kMostBytes = 163 * 1024;
  const std::size_t bytes = ContractTile::bytes(warps, D);
  return bytes <= kMostBytes && bytes <= shared_bytes_of_block();
}

}  // namespace

bool contract_fits(const Sizes& n) {
  return contract_fits(ContractTile::kSmall, n.D);
}

template <class T>
void contract_product(const Exec& exec, const Sizes& n, const Lags& lags, const T* z, const T* s,
                      const T* weight, const Rounded& dg, float* q, float* own, Pull* pulls) {
  using Tile = ContractTile;
  const RingWeight w(exec, n, weight);
  const auto launch_rows = [&]<int kBlockWarps>(std::integral_constant<int, kBlockWarps>) {
    launch("plucker_linear_contract_ring", plucker_linear_contract_ring_kernel<kBlockWarps, T>,
           blocks_for(n.rows, kBlockWarps * 16), kBlockWarps * kWarp, Tile::bytes(kBlockWarps, n.D),
           exec.stream, n, lags, ring_steps(n.R), z, s, w.data(), dg, q, own, pulls, whole_rows(n, z, s));
  };
  const bool large = n.rows >= kEnoughBlocks * Tile::kLarge * 16 && contract_fits(Tile::kLarge, n.D);
  large ? launch_rows(std::integral_constant<int, Tile::kLarge>())
        : launch_rows(std::integral_constant<int, Tile::kSmall>());
}

#define WEDGE_INSTANTIATE(T)                                                                           \
  template void contract_product(const Exec&, const Sizes&, const Lags&, const T*, const T*, const T*, \
                                 const Rounded&, float*, float*, Pull*);
WEDGE_INSTANTIATE(float)
WEDGE_INSTANTIATE(BFloat16)
#undef WEDGE_INSTANTIATE

}  // namespace wedge::cu::plucker
