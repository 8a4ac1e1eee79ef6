// G = dg W contracted with the rows at once. Layout: a warp has 16 rows of dg, which stay in shared memory,
// and goes through the steps of the ring two by two: their part of G arises in the lanes that have its slots
// (plucker_ring.cuh), which add it to G z and G s. Where rows are few, four groups of warps share the steps
// of 32 rows, and their sums are added in order. What is left of dz_t and the pulls follows, four lanes a
// row.
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/cuda/plucker_products.cuh"

namespace wedge::cu::plucker {
namespace {

static_assert(kTileDepth == kRing);

template <int kRowWarps_, int kGroups_, int kStages_>
struct ContractTile {
  static constexpr int kRowWarps = kRowWarps_, kGroups = kGroups_, kStages = kStages_;
  static constexpr int kSteps = 2, kDepth = 64;  // of a warp at a time
  static constexpr int kRows = kRowWarps * 16, kThreadsOfBlock = kRowWarps * kGroups * kWarp;
  static constexpr int kWeights = kDepth * kRing;  // of a step
  static constexpr int kStage = kGroups * kSteps * kWeights;
  // Of a row's y and u in the end: with four more, rows side by side meet no bank twice.
  static constexpr int kPartPitch = 2 * kRing + 4;
  static_assert((kStages * kStage + kRows * kDepth) * sizeof(BFloat16) >=
                kGroups * kRows * kPartPitch * sizeof(float));

  static std::size_t bytes(std::int64_t D) {
    const auto depth = static_cast<std::size_t>(round_up(D, kDepth));
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

// A row's shares, unless they are not to be written: y = G z and u = G s are the sums of the groups' parts,
// each y and u. All lanes of the warp must call.
template <class Tile, class T>
__device__ void finish_row(const Sizes& n, const Lags& lags, std::int64_t row, bool writes,
                           const float* parts, const T* z, const Shares& to, bool whole) {
  constexpr int kPitch = Tile::kRows * Tile::kPartPitch;  // of the groups' parts
  constexpr int kTogether = 6;  // lags whose states are read before the first is used
  const std::int64_t t = row % n.L;
  const bool here = writes && row < n.rows;
  RingRow v[kTogether];
  const auto sees = [&](int k) { return here && k < lags.count && lags.lag[k] <= t; };
  const auto look_back = [&](int first) {
    WEDGE_UNROLL
    for (int i = 0; i < kTogether; ++i)
      v[i].load(z + (row - (sees(first + i) ? lags.lag[first + i] : 0)) * n.R, sees(first + i), n.R, whole);
  };
  RingRow own_z, y, u;
  own_z.load(z + row * n.R, here, n.R, whole);
  look_back(0);
  y.load(parts, true, kRing, true);
  u.load(parts + kRing, true, kRing, true);
  WEDGE_UNROLL
  for (int g = 1; g < Tile::kGroups; ++g) {
    RingRow more_y, more_u;
    more_y.load(parts + g * kPitch, true, kRing, true);
    more_u.load(parts + g * kPitch + kRing, true, kRing, true);
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) {
      y.x[e] += more_y.x[e];
      u.x[e] += more_u.x[e];
    }
  }

  const int seen = count_seen(lags, t);
  const RingDirection direction(own_z);
  const float share = seen > 0 ? -direction.inverse * reciprocal_approx(static_cast<float>(seen)) : 0.0f;
  RingRow q_row, own_row = u;
  WEDGE_UNROLL
  for (int e = 0; e < kSlots; ++e) q_row.x[e] = y.x[e] * share;
  float with_q = 0, with_zhat = 0;
  const auto add = [&](int first) {
    const RingLooks<kTogether> looks(direction, v);
    WEDGE_UNROLL
    for (int i = 0; i < kTogether; ++i) {
      float qw = 0;
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e) qw += q_row.x[e] * v[i].x[e];
      qw = row_sum(qw);
      const bool regular = sees(first + i) && looks.regular[i];
      const float inverse = regular ? reciprocal_approx(looks.w_norm[i]) : 0.0f;
      const float slope = looks.a[i] * direction.inverse, c = slope * inverse;
      qw *= inverse;
      with_q -= regular ? c : sees(first + i) ? looks.a[i] * (1 / kEps) : 0.0f;
      with_zhat -= qw * direction.inverse;
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e) own_row.x[e] += c * qw * inverse * v[i].x[e];
      if (sees(first + i) && lane_of_warp() % kLanesOfRow == 0)
        to.pulls[row * lags.count + first + i] =
            regular ? Pull{inverse, -qw * inverse * inverse, slope} : Pull{direction.norm * (1 / kEps), 0, 0};
    }
  };
  add(0);
  for (int first = kTogether; first < lags.count; first += kTogether) {
    look_back(first);
    add(first);
  }
  WEDGE_UNROLL
  for (int e = 0; e < kSlots; ++e) own_row.x[e] += with_q * q_row.x[e] + with_zhat * direction.zhat.x[e];
  if (!here) return;
  q_row.store(to.q + row * n.R, n.R, whole);
  own_row.store(to.own + row * n.R, n.R, whole);
}

template <class Tile, class T>
__global__ void __launch_bounds__(Tile::kThreadsOfBlock)
    plucker_linear_contract_ring_kernel(Sizes n, Lags lags, int steps, const T* z, const T* s,
                                        const BFloat16* w, Rounded dg, float* q, float* own, Pull* pulls,
                                        bool whole) {
  constexpr int kRows = Tile::kRows, kThreadsOfBlock = Tile::kThreadsOfBlock;
  auto* const weights = dynamic_shared<BFloat16>();                    // [stages, groups, steps, depth, 32]
  BFloat16* const gradients = weights + Tile::kStages * Tile::kStage;  // [D / 32, rows, 32]
  const int thread = static_cast<int>(threadIdx.x), lane = lane_of_warp();
  const int warp = warp_of_block();
  const int row_warp = warp % Tile::kRowWarps, group = warp / Tile::kRowWarps;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * kRows;
  const int depths = static_cast<int>(ceil_div(n.D, Tile::kDepth));
  // Of each group of warps, which has passes · kSteps steps one after another.
  constexpr int kAtOnce = Tile::kGroups * Tile::kSteps;
  const int passes = ceil_div(steps, kAtOnce);

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

  // The groups' sums, where the weights and gradients were: [groups, rows, y and u, 32]
  cp_async_wait<0>();
  __syncthreads();
  auto* const parts = reinterpret_cast<float*>(weights);
  WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    sums[half].finish(first_step + passes * Tile::kSteps);
    float* const part = parts + (group * kRows + row_warp * 16 + half * 8 + lane / 4) * Tile::kPartPitch;
    sums[half].y.store(part, kRing, true);
    sums[half].u.store(part + kRing, kRing, true);
  }
  __syncthreads();
  // Four lanes a row again, the rows over all warps. A warp beyond the rows takes the last and writes
  // nothing: without a branch around what shuffles, the lags' latencies overlap.
  for (int first = 0; first < kRows; first += kThreadsOfBlock / kLanesOfRow) {
    const int own_row = first + thread / kLanesOfRow, at = own_row < kRows ? own_row : kRows - 1;
    finish_row<Tile>(n, lags, first_row + at, own_row < kRows, parts + at * Tile::kPartPitch, z,
                     Shares{q, own, pulls}, whole);
  }
}

}  // namespace

bool contract_fits(std::int64_t D) {
  return FewRows::fits(D);
}

template <class T>
void contract_product(const Exec& exec, const Sizes& n, const Lags& lags,
                      const PluckerLinearBackward<T>& args, const BFloat16* w, const Rounded& dg,
                      const Shares& to) {
  const auto launch_tiles = [&]<class Tile>(Tile) {
    launch("plucker_linear_contract_ring", plucker_linear_contract_ring_kernel<Tile, T>,
           blocks_for(n.rows, Tile::kRows), Tile::kThreadsOfBlock, Tile::bytes(n.D), exec.stream, n, lags,
           ring_steps(n.R), args.z, args.s, w, dg, to.q, to.own, to.pulls, whole_rows(n, args.z, args.s));
  };
  const bool many = n.rows >= kEnoughBlocks * ManyRows::kRows && ManyRows::fits(n.D);
  many ? launch_tiles(ManyRows()) : launch_tiles(FewRows());
}

template void contract_product(const Exec&, const Sizes&, const Lags&, const PluckerLinearBackward<float>&,
                               const BFloat16*, const Rounded&, const Shares&);
template void contract_product(const Exec&, const Sizes&, const Lags&, const PluckerLinearBackward<BFloat16>&,
                               const BFloat16*, const Rounded&, const Shares&);

}  // namespace wedge::cu::plucker
