// Layout: a block has 32 rows, a warp four of them. Normalisation's and the gate's gradients are made in
// registers, all four rows read before the first is used; du goes to shared memory as the products' left
// factor and to memory for the weight's gradient, and what reaches h and g without the weight waits in shared
// memory in float32. Meanwhile the weight's tiles, 32 of its D rows and all 2 D columns, arrive by cp.async
// four deep; a warp's sums are 64 of the columns of du W, its rows' parts of dh or dg.
// Bytes moved: dy, h, g and alpha in, du, dh, dg and its copy out, once; the weight from L2 for each block,
// and 4 rows of partial sums.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/dropout_mask.cuh"
#include "kernels/cuda/gate_rows.cuh"

namespace wedge::cu {
namespace {

using namespace gate_rows;

constexpr int kStages = 4, kStage = 2 * kWidest * kTileDepth;
constexpr int kWarpColumns = 2 * kWidest / kWarps, kEighths = kWarpColumns / 8, kMma = kRows / 16;
constexpr int kFactorTiles = kWidest / kTileDepth;
constexpr int kGroups = kWidest / (4 * kWarp), kRowsEach = kRows / kWarps;
constexpr int kSums = 3;  // of columns: dnorm_weight, dnorm_bias, dbias
constexpr std::size_t kBytes =
    (kFactorTiles * std::size_t{kTile} + kStages * std::size_t{kStage}) * sizeof(BFloat16) +
    kValues * sizeof(float);
static_assert(kBytes <= kMostBytes);

using Four = Pack<float, 4>;

__device__ inline int column_of(int group) {
  return group * (4 * kWarp) + 4 * lane_of_warp();
}

__device__ Four load_four(const float* p, bool valid) {
  return valid ? *reinterpret_cast<const Four*>(p) : Four{};
}

// A lane's columns of the block's sums.
struct Sums {
  Four of[kSums][kGroups];
};

// The gradients up to du of this warp's rows. `factor` gets du, `direct` ds alpha and ds (1 - alpha).
__device__ void make_du(const GateLayernormBackward& n, const MaskSource& source, std::int64_t first_row,
                        float* direct, BFloat16* factor, Sums& sums) {
  const int warp = warp_of_block(), D = static_cast<int>(n.D);
  Four dy[kRowsEach][kGroups], h[kRowsEach][kGroups], g[kRowsEach][kGroups], alpha[kRowsEach][kGroups];
  float mean[kRowsEach], rstd[kRowsEach];
  WEDGE_UNROLL
  for (int r = 0; r < kRowsEach; ++r) {
    const std::int64_t row = first_row + warp * kRowsEach + r;
    const bool is_row = row < n.rows;
    mean[r] = is_row ? n.mean[row] : 0.0f;
    rstd[r] = is_row ? n.rstd[row] : 0.0f;
    WEDGE_UNROLL
    for (int i = 0; i < kGroups; ++i) {
      const bool valid = is_row && column_of(i) < D;
      const std::int64_t at = row * n.D + column_of(i);
      dy[r][i] = load_four(n.dy + at, valid);
      h[r][i] = load_four(n.h + at, valid);
      g[r][i] = load_four(n.g + at, valid);
      alpha[r][i] = load_four(n.alpha + at, valid);
    }
  }
  Four weight[kGroups];
  WEDGE_UNROLL
  for (int i = 0; i < kGroups; ++i) weight[i] = load_four(n.norm_weight + column_of(i), column_of(i) < D);

  const Masks mask(source);
  float means[2 * kRowsEach] = {};  // of v and of v x̂ of each row
  float *const mean_v = means, *const mean_vx = means + kRowsEach;
  const auto xhat = [&](int r, int i, int k) {
    return (blend(alpha[r][i].v[k], h[r][i].v[k], g[r][i].v[k]) - mean[r]) * rstd[r];
  };
  WEDGE_UNROLL
  for (int r = 0; r < kRowsEach; ++r) WEDGE_UNROLL
  for (int i = 0; i < kGroups; ++i) {
    Four& d = dy[r][i];
    if (mask.on()) mask.apply((first_row + warp * kRowsEach + r) * n.D + column_of(i), d.v);
    WEDGE_UNROLL
    for (int k = 0; k < 4; ++k) {
      const float x = xhat(r, i, k);
      sums.of[0][i].v[k] += d.v[k] * x;
      sums.of[1][i].v[k] += d.v[k];
      d.v[k] *= weight[i].v[k];  // v from here on
      mean_v[r] += d.v[k];
      mean_vx[r] += d.v[k] * x;
    }
  }
  warp_sums(means);

  const float share = 1 / static_cast<float>(D);
  WEDGE_UNROLL
  for (int r = 0; r < kRowsEach; ++r) WEDGE_UNROLL
  for (int i = 0; i < kGroups; ++i) {
    const int row = warp * kRowsEach + r, column = column_of(i);
    Four to_h, to_g;
    float du[4];
    WEDGE_UNROLL
    for (int k = 0; k < 4; ++k) {
      const float a = alpha[r][i].v[k];
      const float ds = rstd[r] * (dy[r][i].v[k] - mean_v[r] * share - xhat(r, i, k) * (mean_vx[r] * share));
      to_h.v[k] = ds * a;
      to_g.v[k] = ds * (1 - a);
      du[k] = to_h.v[k] * (1 - a) * (h[r][i].v[k] - g[r][i].v[k]);
      sums.of[2][i].v[k] += du[k];
    }
    *reinterpret_cast<Four*>(direct + row * kPitch + column) = to_h;
    *reinterpret_cast<Four*>(direct + (kRows + row) * kPitch + column) = to_g;
    const Pack<std::uint32_t, 2> rounded{pack_bf16(du[0], du[1]), pack_bf16(du[2], du[3])};
    *reinterpret_cast<Pack<std::uint32_t, 2>*>(factor + column / kTileDepth * kTile +
                                               place_of(row, column % kTileDepth / kChunk) +
                                               column % kChunk) = rounded;
    if (first_row + row < n.rows && column < D)
      *reinterpret_cast<Pack<std::uint32_t, 2>*>(n.du + (first_row + row) * n.D + column) = rounded;
  }
}

// u [32, 64] += du W of 32 of W's rows and this warp's 64 columns of the stage.
__device__ void multiply_rows(const BFloat16* factor, const BFloat16* stage, float (&u)[kMma][kEighths][4]) {
  const int lane = lane_of_warp(), matrix = lane / 8;
  multiply_tile(factor, u, [&](int depth, int pair, std::uint32_t(&b)[4]) {
    const int chunk = 2 * pair + matrix / 2;
    ldmatrix_x4_trans(
        b, stage + chunk / 4 * kTile + place_of(depth * 16 + matrix % 2 * 8 + lane % 8, chunk % 4));
  });
}

__global__ void __launch_bounds__(kThreads)
    gate_layernorm_backward_kernel(GateLayernormBackward n, MaskSource source, float* partials) {
  auto* const direct = dynamic_shared<float>();                        // [2, rows, pitch]: to h, to g
  auto* const factor = reinterpret_cast<BFloat16*>(direct + kValues);  // [tiles][rows, 32]
  BFloat16* const stages = factor + kFactorTiles * kTile;              // [stages][16 tiles][32, 32]
  const int thread = static_cast<int>(threadIdx.x), warp = warp_of_block(), D = static_cast<int>(n.D);
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * kRows;
  const int rows = static_cast<int>(n.rows - first_row < kRows ? n.rows - first_row : kRows);
  const int steps = ceil_div(D, kTileDepth);

  const auto bring = [&](int step) {
    if (step < steps) {
      constexpr int kChunks = 2 * kWidest / kChunk;  // of a row of the stage
      const int at = thread % kChunks, half = at / (kChunks / 2), column = at % (kChunks / 2) * kChunk;
      BFloat16* const to = stages + step % kStages * kStage + at / 4 * kTile;
      WEDGE_UNROLL
      for (int row = thread / kChunks; row < kTileDepth; row += kThreads / kChunks) {
        const int k = step * kTileDepth + row;
        const bool valid = k < D && column < D;
        cp_async_16(to + place_of(row, at % 4), n.weight + (valid ? (2 * k + half) * n.D + column : 0),
                    valid);
      }
    }
    cp_async_commit();
  };
  for (int step = 0; step < kStages; ++step) bring(step);

  Sums sums = {};
  make_du(n, source, first_row, direct, factor, sums);

  const int half = warp / (kWarps / 2), warp_column = warp % (kWarps / 2) * kWarpColumns;
  float u[kMma][kEighths][4] = {};
  for (int step = 0; step < steps; ++step) {
    // The step's operands are there, and nobody reads those any more that are written over next.
    if (step == 0)
      cp_async_wait<kStages - 1>();
    else
      cp_async_wait<kStages - 2>();
    __syncthreads();
    if (step > 0) bring(step + kStages - 1);
    if (warp_column < D)
      multiply_rows(factor + step * kTile,
                    stages + step % kStages * kStage + warp * kWarpColumns * kTileDepth, u);
  }

  float* const out = half == 0 ? n.dh.data : n.dg.data;
  const bool add = half == 0 ? n.dh.add : n.dg.add;
  BFloat16* const out_rounded = half == 0 ? nullptr : n.dg_rounded;
  float* const out_sums = half == 0 ? nullptr : n.dg_sums;
  if (out != nullptr || out_rounded != nullptr) {
    WEDGE_UNROLL
    for (int j = 0; j < kEighths; ++j) {
      const int d = warp_column + j * 8 + lane_of_warp() % 4 * 2;
      Pack<float, 2> sum = {};
      WEDGE_UNROLL
      for (int i = 0; i < kMma; ++i) WEDGE_UNROLL
      for (int lower = 0; lower < 2; ++lower) {
        const int row = i * 16 + lower * 8 + lane_of_warp() / 4;
        if (row >= rows || d >= D) continue;
        const std::int64_t at = (first_row + row) * n.D + d;
        auto x = *reinterpret_cast<const Pack<float, 2>*>(direct + (half * kRows + row) * kPitch + d);
        x.v[0] += u[i][j][2 * lower];
        x.v[1] += u[i][j][2 * lower + 1];
        if (add) {
          const auto old = *reinterpret_cast<const Pack<float, 2>*>(out + at);
          x.v[0] += old.v[0];
          x.v[1] += old.v[1];
        }
        sum.v[0] += x.v[0];
        sum.v[1] += x.v[1];
        if (out != nullptr) *reinterpret_cast<Pack<float, 2>*>(out + at) = x;
        if (out_rounded != nullptr)
          *reinterpret_cast<std::uint32_t*>(out_rounded + at) = pack_bf16(x.v[0], x.v[1]);
      }
      if (out_sums == nullptr) continue;
      for (int offset = 4; offset < kWarp; offset *= 2) {
        sum.v[0] += __shfl_xor_sync(kAllLanes, sum.v[0], offset);
        sum.v[1] += __shfl_xor_sync(kAllLanes, sum.v[1], offset);
      }
      if (lane_of_warp() < 4 && d < D)
        *reinterpret_cast<Pack<float, 2>*>(out_sums + static_cast<std::int64_t>(blockIdx.x) * D + d) = sum;
    }
  }

  if (partials == nullptr) return;
  auto* const terms = reinterpret_cast<float*>(stages + steps % kStages * kStage);  // a stage that is free
  static_assert(kWarps * kWidest <= kStage / 2 && kWidest == kThreads);
  WEDGE_UNROLL
  for (int which = 0; which < kSums; ++which) {
    WEDGE_UNROLL
    for (int i = 0; i < kGroups; ++i)
      *reinterpret_cast<Four*>(terms + warp * kWidest + column_of(i)) = sums.of[which][i];
    __syncthreads();
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += terms[w * kWidest + thread];
    if (thread < D) partials[(static_cast<std::int64_t>(blockIdx.x) * kSums + which) * D + thread] = total;
    __syncthreads();
  }
}

}  // namespace

std::int64_t gate_layernorm_pieces(std::int64_t rows) {
  return blocks_for(rows, kRows);
}

void gate_layernorm_backward(const Exec& exec, const GateLayernormBackward& args) {
  const bool parameters = args.dnorm_weight || args.dnorm_bias || args.dbias;
  const auto blocks = static_cast<unsigned>(gate_layernorm_pieces(args.rows));
  const ColumnPartials<kSums> sums(parameters ? blocks : 0, args.D);
  if (blocks > 0)
    launch("gate_layernorm_backward", gate_layernorm_backward_kernel, dim3(blocks), kThreads, kBytes,
           exec.stream, args, MaskSource(args.mask), parameters ? sums.data() : nullptr);
  if (parameters) sums.add_up(exec, "gate_layernorm_totals", args.dnorm_weight, args.dnorm_bias, args.dbias);
}

}  // namespace wedge::cu
