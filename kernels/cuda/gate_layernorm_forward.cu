// Layout: a block has 32 rows. h and g arrive by cp.async as they are and are rounded from there into tiles
// of the left factor; the weight's tiles of 32 columns of all D rows arrive four pairs deep, the first four
// asked for before one is used. A warp's sums are 32 of the D columns of u. Sigmoid, blend and
// normalisation are made of the sums: the rows' two means pass through shared memory. The masks, one bit an
// element, are drawn while the operands are on their way.
// Bytes moved: h and g in, alpha, y, its copy and [h ; g]'s copy out, once; the weight from L2 for each
// block.
#include "kernels/cuda/dropout_mask.cuh"
#include "kernels/cuda/gate_rows.cuh"

namespace wedge::cu {
namespace {

using namespace gate_rows;

constexpr int kStages = 4, kPair = 2 * kWidest * kTileDepth;  // elements of two of the weight's tiles
constexpr int kWarpColumns = kWidest / kWarps, kEighths = kWarpColumns / 8, kMma = kRows / 16;
constexpr int kFactorTiles = 2 * kWidest / kTileDepth;
constexpr std::size_t kBytes =
    (kFactorTiles * std::size_t{kTile} + kStages * std::size_t{kPair}) * sizeof(BFloat16) +
    kValues * sizeof(float);
static_assert(kBytes <= kMostBytes);

// The places of a lane's sums: rows of the block and columns of the tensor.
__device__ inline int row_of(int i, int half) {
  return i * 16 + half * 8 + lane_of_warp() / 4;
}
__device__ inline int column_of(int j) {
  return static_cast<int>(threadIdx.x) / kWarp * kWarpColumns + j * 8 + lane_of_warp() % 4 * 2;
}
__device__ inline int bit_of(int i, int half, int j) {
  return ((i * 2 + half) * kEighths + j) * 2;
}

// Bits bit_of(i, half, j) and the one above: whether the sums' elements are kept. A Philox block has the
// masks of four neighbours, two lanes' pairs: of two eighths each lane draws one and they exchange.
__device__ std::uint32_t draw_masks(const Masks& mask, std::int64_t first_row, std::int64_t D) {
  const bool odd = lane_of_warp() % 2 != 0;
  std::uint32_t bits = 0;
  WEDGE_UNROLL
  for (int i = 0; i < kMma; ++i) WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) WEDGE_UNROLL
  for (int j = 0; j < kEighths; j += 2) {
    float m[4];
    mask.fill((first_row + row_of(i, half)) * D + (column_of(odd ? j + 1 : j) & ~3), m);
    unsigned own = 0;
    WEDGE_UNROLL
    for (int k = 0; k < 4; ++k) own |= m[k] != 0 ? 1u << k : 0u;
    const unsigned other = __shfl_xor_sync(kAllLanes, own, 1);
    bits |= (odd ? other >> 2 : own & 3u) << bit_of(i, half, j);
    bits |= (odd ? own >> 2 : other & 3u) << bit_of(i, half, j + 1);
  }
  return bits;
}

// Σ over each of this lane's rows of what all warps hold of it; `shared` [kRows, kWarps] is read until the
// next barrier.
__device__ void sum_rows(float (&x)[kMma][2], float* shared) {
  WEDGE_UNROLL
  for (int i = 0; i < kMma; ++i) WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    float& sum = x[i][half];
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sum += __shfl_xor_sync(kAllLanes, sum, 2);
    if (lane_of_warp() % 4 == 0)
      shared[row_of(i, half) * kWarps + static_cast<int>(threadIdx.x) / kWarp] = sum;
  }
  __syncthreads();
  WEDGE_UNROLL
  for (int i = 0; i < kMma; ++i) WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const auto* const parts = reinterpret_cast<const Pack<float, 4>*>(shared + row_of(i, half) * kWarps);
    const Pack<float, 4> a = parts[0], b = parts[1];
    x[i][half] = ((a.v[0] + a.v[1]) + (a.v[2] + a.v[3])) + ((b.v[0] + b.v[1]) + (b.v[2] + b.v[3]));
  }
}

__global__ void __launch_bounds__(kThreads)
    gate_layernorm_forward_kernel(GateLayernormForward n, MaskSource source) {
  auto* const values = dynamic_shared<float>();                        // [2, rows, pitch]: h, g
  auto* const factor = reinterpret_cast<BFloat16*>(values + kValues);  // [h's tiles, g's tiles][rows, 32]
  BFloat16* const stages = factor + kFactorTiles * kTile;              // [stages, 2][kWidest, 32]
  const int thread = static_cast<int>(threadIdx.x), D = static_cast<int>(n.D);
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * kRows;
  const int rows = static_cast<int>(n.rows - first_row < kRows ? n.rows - first_row : kRows);
  const int tiles = ceil_div(D, kTileDepth);  // of h, of g, and pairs of the weight's

  for (int at = thread; at < 2 * kRows * (kWidest / 4); at += kThreads) {
    const int column = at % (kWidest / 4) * 4, row = at / (kWidest / 4) % kRows,
              which = at / (kWidest / 4) / kRows;
    const bool valid = column < D && row < rows;
    const float* const from = which == 0 ? n.h : n.g;
    cp_async_16(values + (which * kRows + row) * kPitch + column,
                from + (valid ? (first_row + row) * n.D + column : 0), valid);
  }
  cp_async_commit();
  const auto bring = [&](int pair) {
    if (pair < tiles) {
      BFloat16* const to = stages + pair % kStages * kPair;
      WEDGE_UNROLL
      for (int tile = 0; tile < 2; ++tile) {
        const int step = 2 * pair + tile, half = step < tiles ? 0 : 1;
        const int k = (step - half * tiles) * kTileDepth;
        bring_tile<kWidest, kThreads>(thread, n.weight + half * D + k, 2 * n.D, n.D,
                                      k + thread % 4 * kChunk < D, to + tile * (kPair / 2));
      }
    }
    cp_async_commit();
  };
  for (int pair = 0; pair < kStages; ++pair) bring(pair);

  const Masks mask(source);
  const std::uint32_t kept = mask.on() ? draw_masks(mask, first_row, n.D) : 0;

  cp_async_wait<kStages>();
  __syncthreads();
  // Round h and g: eight lanes' rows of a tile at a time, four chunks each.
  WEDGE_UNROLL
  for (int at = 0; at < kFactorTiles; at += kThreads / (kRows * 4)) {
    const int tile = at + thread / (kRows * 4), row = thread / 4 % kRows, chunk = thread % 4;
    const int which = tile * kTileDepth / kWidest, column = tile * kTileDepth % kWidest + chunk * kChunk;
    const float* const from = values + (which * kRows + row) * kPitch + column;
    const auto low = *reinterpret_cast<const Pack<float, 4>*>(from),
               high = *reinterpret_cast<const Pack<float, 4>*>(from + 4);
    const Pack<std::uint32_t, 4> eight{pack_bf16(low.v[0], low.v[1]), pack_bf16(low.v[2], low.v[3]),
                                       pack_bf16(high.v[0], high.v[1]), pack_bf16(high.v[2], high.v[3])};
    *reinterpret_cast<Pack<std::uint32_t, 4>*>(factor + tile * kTile + place_of(row, chunk)) = eight;
    if (n.hg_rounded != nullptr && row < rows && column < D)
      *reinterpret_cast<Pack<std::uint32_t, 4>*>(n.hg_rounded + (first_row + row) * 2 * n.D + which * D +
                                                 column) = eight;
  }

  const int warp_column = warp_of_block() * kWarpColumns;
  float u[kMma][kEighths][4] = {};
  for (int pair = 0; pair < tiles; ++pair) {
    // The pair's tiles are there, and nobody reads those any more that are written over next.
    if (pair == 0)
      cp_async_wait<kStages - 1>();
    else
      cp_async_wait<kStages - 2>();
    __syncthreads();
    if (pair > 0) bring(pair + kStages - 1);
    const BFloat16* const stage = stages + pair % kStages * kPair;
    WEDGE_UNROLL
    for (int tile = 0; tile < 2; ++tile) {
      const int step = 2 * pair + tile, of = step < tiles ? step : step - tiles + kFactorTiles / 2;
      if (warp_column < D)
        multiply_tiles(factor + of * kTile, stage + tile * (kPair / 2) + warp_column * kTileDepth, u);
    }
  }

  // [2, rows, warps], in the stage that nobody reads any more
  auto* const sums_of_rows = reinterpret_cast<float*>(stages + tiles % kStages * kPair);
  float mean[kMma][2] = {}, rstd[kMma][2] = {};
  WEDGE_UNROLL
  for (int j = 0; j < kEighths; ++j) {
    const int d = column_of(j);
    const bool column = d < D;
    float bias[2] = {};
    WEDGE_UNROLL
    for (int b = 0; b < 2; ++b)
      if (column && n.bias != nullptr) bias[b] = n.bias[d + b];
    WEDGE_UNROLL
    for (int i = 0; i < kMma; ++i) WEDGE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = row_of(i, half);
      const auto h = *reinterpret_cast<const Pack<float, 2>*>(values + row * kPitch + d),
                 g = *reinterpret_cast<const Pack<float, 2>*>(values + (kRows + row) * kPitch + d);
      Pack<float, 2> alpha;
      WEDGE_UNROLL
      for (int b = 0; b < 2; ++b) {
        float& x = u[i][j][2 * half + b];
        alpha.v[b] = sigmoid(x + bias[b]);
        x = column ? blend(alpha.v[b], h.v[b], g.v[b]) : 0.0f;
        mean[i][half] += x;
      }
      if (n.alpha != nullptr && column && row < rows)
        *reinterpret_cast<Pack<float, 2>*>(n.alpha + (first_row + row) * n.D + d) = alpha;
    }
  }
  sum_rows(mean, sums_of_rows);
  const float share = 1 / static_cast<float>(D), eps = static_cast<float>(n.eps);
  WEDGE_UNROLL
  for (int i = 0; i < kMma; ++i) WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    mean[i][half] = mean_of(mean[i][half], static_cast<float>(D), share);
    WEDGE_UNROLL
    for (int j = 0; j < kEighths; ++j) WEDGE_UNROLL
    for (int b = 0; b < 2; ++b) {
      const float x = u[i][j][2 * half + b] - mean[i][half];
      if (column_of(j) < D) rstd[i][half] += x * x;
    }
  }
  sum_rows(rstd, sums_of_rows + kRows * kWarps);
  WEDGE_UNROLL
  for (int i = 0; i < kMma; ++i) WEDGE_UNROLL
  for (int half = 0; half < 2; ++half) {
    rstd[i][half] = rsqrtf(rstd[i][half] * share + eps);
    const int row = row_of(i, half);
    if (n.mean == nullptr || thread >= kWarp || lane_of_warp() % 4 != 0 || row >= rows) continue;
    n.mean[first_row + row] = mean[i][half];
    n.rstd[first_row + row] = rstd[i][half];
  }

  Pack<float, 2> scale[kEighths], shift[kEighths];
  WEDGE_UNROLL
  for (int j = 0; j < kEighths; ++j) {
    const int d = column_of(j);
    scale[j] = shift[j] = {};
    if (d >= D) continue;
    scale[j] = *reinterpret_cast<const Pack<float, 2>*>(n.norm_weight + d);
    shift[j] = *reinterpret_cast<const Pack<float, 2>*>(n.norm_bias + d);
  }
  WEDGE_UNROLL
  for (int j = 0; j < kEighths; ++j) {
    const int d = column_of(j);
    if (d >= D) continue;
    WEDGE_UNROLL
    for (int i = 0; i < kMma; ++i) WEDGE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = row_of(i, half);
      if (row >= rows) continue;
      Pack<float, 2> y;
      WEDGE_UNROLL
      for (int b = 0; b < 2; ++b) {
        y.v[b] = (u[i][j][2 * half + b] - mean[i][half]) * rstd[i][half] * scale[j].v[b] + shift[j].v[b];
        if (mask.on()) y.v[b] *= (kept >> (bit_of(i, half, j) + b) & 1u) != 0 ? source.rule.keep_scale : 0.0f;
      }
      const std::int64_t at = (first_row + row) * n.D + d;
      *reinterpret_cast<Pack<float, 2>*>(n.y + at) = y;
      if (n.y_rounded != nullptr)
        *reinterpret_cast<std::uint32_t*>(n.y_rounded + at) = pack_bf16(y.v[0], y.v[1]);
    }
  }
}

}  // namespace

bool has_gate_layernorm(std::int64_t D) {
  return D > 0 && D <= kWidest && D % kChunk == 0 && shared_bytes_of_block() >= kMostBytes;
}

void gate_layernorm_forward(const Exec& exec, const GateLayernormForward& args) {
  if (args.rows == 0) return;
  launch("gate_layernorm_forward", gate_layernorm_forward_kernel, blocks_for(args.rows, kRows), kThreads,
         kBytes, exec.stream, args, MaskSource(args.mask));
}

}  // namespace wedge::cu
