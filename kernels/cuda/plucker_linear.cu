// g = W p̄ + b with p̄ = z ∧ s, and its gradients. kernels/plucker_linear.h has the formulas, the head of
// cpu/plucker_linear.cpp the algebra that leaves two products with G a position.
//
// Forward
//   states    s_t, a warp a position: two passes over R for a lag's scalars, then one pass over R adds up s_t
//             from all lags, so that nothing but scalars is kept and R may be anything. Up to R = 32 four
//             lanes a position, in registers; where rows are few, within the product on tensor cores.
//   product   on tensor cores where plucker_products.cuh has it, else F Wᵀ in 64 × 64 tiles
//             (product_tile.cuh). A thread follows the pair (i, j) of its feature and makes F from z and s,
//             which lie in L1, as it goes: F exists in shared memory alone.
// Backward
//   dbias     column sums of dg, and dg as bfloat16 for the products on tensor cores.
//   dweight   on tensor cores, else dgᵀ F in 64 × 64 tiles, a thread's feature fixed. A step has few such
//             tiles (32 for D = 256, R = 32) and many rows, so rows are cut into pieces, whose sums a second
//             kernel adds in order.
//   contract  q_t = -G ẑ / n, G s, dz_t's own part, and for each lag what z_{t-Δ} gets from t as three
//             scalars (Pull), G = dg W. On tensor cores where G arises. In float32 a warp a position, and G
//             from cuBLAS in chunks of rows that stay in the L2 cache: to contract every tile of G where it
//             arises costs a quarter more products there for R = 32 (tiles of pairs cover more than the
//             triangle) and 2 R sums a row.
//   gather    dz: its own part and the pulls of the positions that look back at it (plucker_gather.cu).
//
// Bytes moved in float32, beyond what the caches hold: forward z and s twice, W once a tile of rows, g;
// backward z and s three times, dg three times, W once a chunk, the partials of dweight, q and dz's own part.
#include "kernels/plucker_linear.h"

#include <algorithm>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/plucker_products.cuh"
#include "kernels/cuda/plucker_ring_weight.cuh"

namespace wedge::cu {
namespace {

using namespace plucker;

constexpr std::int64_t kDeltaFloats = std::int64_t{1} << 21;  // of dF at a time: 8 MB
constexpr std::int64_t kDweightPieceRows = 256;               // of a piece of dweight, at least
constexpr std::int64_t kWantedBlocks = 512;                   // a few for each multiprocessor

template <class T>
__global__ void __launch_bounds__(kThreads)
    plucker_linear_states_kernel(Sizes n, Lags lags, const T* z, T* s) {
  // For each lag a and 1 / (n max(N, 1e-6)), by warp.
  WEDGE_SHARED(float2, shares, kWarps * kMaxLags);
  float2* const mine = &shares[static_cast<int>(threadIdx.x) / kWarp * kMaxLags];
  const int lane = lane_of_warp(), R = n.R;
  for (std::int64_t row = first_row(); row < n.rows; row += row_step()) {
    const std::int64_t t = row % n.L;
    const T* const zt = z + row * R;
    const Direction<T> direction(zt, R);
    const auto seen = static_cast<float>(count_seen(lags, t));
    for (int k = 0; k < lags.count; ++k) {
      if (lags.lag[k] > t) continue;
      const Look<T> look(direction, zt - lags.lag[k] * R, R);
      const float N = look.regular ? direction.norm * look.w_norm : kEps;
      if (lane == 0) mine[k] = make_float2(look.a, look.w_norm == 0 ? 0.0f : 1 / (seen * N));
    }
    __syncwarp();
    for (int i = lane; i < R; i += kWarp) {
      float sum = 0;
      for (int k = 0; k < lags.count; ++k) {
        if (lags.lag[k] > t || mine[k].y == 0) continue;
        sum += mine[k].y * (to_float(zt[i - lags.lag[k] * R]) - mine[k].x * direction(i));
      }
      s[row * R + i] = from_float<T>(sum);
    }
    __syncwarp();
  }
}

// The same for R of at most 32, four lanes a position.
template <class T>
__global__ void __launch_bounds__(kRingThreads)
    plucker_linear_states_ring_kernel(Sizes n, Lags lags, const T* z, T* s, bool whole) {
  const std::int64_t mine = thread_in_grid() / kLanesOfRow;
  const bool here = mine < n.rows;
  const std::int64_t row = here ? mine : n.rows - 1;
  RingState state;
  state.load(z + row * n.R, row % n.L, n.R, whole);
  state.count(lags);
  for (int first = 0; first < lags.count; first += RingState::kAtOnce) {
    state.look_back(lags, first, z + row * n.R, n.R, whole);
    state.add(lags, first);
  }
  if (here) state.sum.store(s + row * n.R, n.R, whole);
}

template <class T>
__global__ void __launch_bounds__(kProductThreads)
    plucker_linear_product_kernel(Sizes n, const T* z, const T* s, const T* weight, const T* bias, T* g) {
  // Blocks of the same rows are neighbours.
  const std::int64_t tiles = ceil_div(n.D, kProductTile);
  const std::int64_t row = blockIdx.x / tiles * kProductTile, column = blockIdx.x % tiles * kProductTile;
  float sums[4][4];
  product_tile(FeatureOperand<T, true>(n, z, s, row, n.rows),
               MatrixOperand<T, true>(weight, n.P, column, n.D, n.P), n.P, sums);
  for (int c = 0; c < 4; ++c) {
    const std::int64_t d = column + product_column() + c;
    if (d >= n.D) break;
    const float b = bias != nullptr ? to_float(bias[d]) : 0.0f;
    for (int r = 0; r < 4; ++r) {
      const std::int64_t t = row + product_row() + r;
      if (t < n.rows) g[t * n.D + d] = from_float<T>(sums[r][c] + b);
    }
  }
}

// out [piece, D, P] (+)= the piece's part of dgᵀ F.
template <class T>
__global__ void __launch_bounds__(kProductThreads)
    plucker_linear_dweight_kernel(Sizes n, std::int64_t piece_rows, const T* z, const T* s, const T* dg,
                                  float* out, bool add) {
  const std::int64_t d_tiles = ceil_div(n.D, kProductTile);
  const std::int64_t p_tiles = ceil_div(n.P, kProductTile);
  const std::int64_t piece = blockIdx.x / (d_tiles * p_tiles), tile = blockIdx.x % (d_tiles * p_tiles);
  const std::int64_t row = tile / p_tiles * kProductTile, column = tile % p_tiles * kProductTile;
  const std::int64_t first = piece * piece_rows, left = n.rows - first;
  const std::int64_t rows = left < piece_rows ? left : piece_rows;
  float sums[4][4];
  product_tile(MatrixOperand<T, false>(dg + first * n.D, n.D, row, n.D, rows),
               FeatureOperand<T, false>(n, z + first * n.R, s + first * n.R, column, rows), rows, sums);
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 4; ++c) {
      const std::int64_t d = row + product_row() + r, p = column + product_column() + c;
      if (d < n.D && p < n.P) put(out + (piece * n.D + d) * n.P + p, sums[r][c], add);
    }
}

// out (+)= Σ over pieces, in order.
__global__ void plucker_linear_add_pieces_kernel(std::int64_t pieces, std::int64_t count, const float* parts,
                                                 float* out, bool add) {
  for (std::int64_t k = thread_in_grid(); k < count; k += threads_in_grid()) {
    float sum = 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) sum += parts[piece * count + k];
    put(out + k, sum, add);
  }
}

// Partial sums of dbias and, unless null, dg as rounded [rows, pitch], zeros beyond D.
template <class T>
__global__ void plucker_linear_dbias_kernel(std::int64_t rows, std::int64_t D, const T* dg, float* partials,
                                            BFloat16* rounded, std::int64_t pitch) {
  const ColumnTile<> tile(rows, D);
  float sum = 0;
  const auto load = [&](std::int64_t row) { return to_float(dg[row * D + tile.column]); };
  tile.for_rows<4>(load, [&](std::int64_t row, float x) {
    if (rounded != nullptr) rounded[row * pitch + tile.column] = from_float<BFloat16>(x);
    sum += x;
  });
  tile.sum(sum, partials);
  if (rounded == nullptr || tile.column < D || tile.column >= pitch) return;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kTileWarps + threadIdx.x / kWarp;
       row < rows; row += static_cast<std::int64_t>(gridDim.y) * kTileWarps)
    rounded[row * pitch + tile.column] = BFloat16();
}

// q and own [rows, R] =, pulls [rows, lags] = for the lags that a row has, for rows first .. first + count.
template <class T>
__global__ void __launch_bounds__(kThreads)
    plucker_linear_contract_kernel(Sizes n, Lags lags, std::int64_t first, std::int64_t count, const T* z,
                                   const T* s, const float* dfeatures, float* q, float* own, Pull* pulls) {
  // For each lag a, and what w is multiplied with in dz_t, by warp.
  WEDGE_SHARED(float2, shares, kWarps * kMaxLags);
  float2* const mine = &shares[static_cast<int>(threadIdx.x) / kWarp * kMaxLags];
  const int lane = lane_of_warp(), R = n.R;
  for (std::int64_t chunk_row = first_row(); chunk_row < count; chunk_row += row_step()) {
    const std::int64_t row = first + chunk_row, t = row % n.L;
    const T *const zt = z + row * R, *const st = s + row * R;
    // From here on lane k owns elements k, k + 32, ... and reads no others of q and own.
    float *const qt = q + row * R, *const own_t = own + row * R;
    const int seen = count_seen(lags, t);
    if (seen == 0) {
      for (int i = lane; i < R; i += kWarp) qt[i] = own_t[i] = 0;
      continue;
    }
    const Direction<T> direction(zt, R);
    const float* const G = dfeatures + chunk_row * n.P;  // above the diagonal

    for (int base = 0; base < R; base += kWarp) {
      const int mine_k = base + lane, last = base + kWarp < R ? base + kWarp : R;
      float y = 0, u = 0;  // (G ẑ)_k, (G s)_k
      // Column k of the triangle: -G_ik for i < k.
      for (int i = 0; i < last - 1; ++i) {
        const float x_i = direction(i), s_i = to_float(st[i]);
        if (mine_k <= i || mine_k >= R) continue;
        const float g = G[Pair::before(i, R) + mine_k - i - 1];
        y -= g * x_i;
        u -= g * s_i;
      }
      // Row i of it, by the whole warp, for each i of these 32.
      for (int i = base; i < last; ++i) {
        const float* const row_i = G + Pair::before(i, R) - i - 1;
        float row_y = 0, row_u = 0;
        for (int j = i + 1 + lane; j < R; j += kWarp) {
          row_y += row_i[j] * direction(j);
          row_u += row_i[j] * to_float(st[j]);
        }
        row_y = warp_sum(row_y);
        row_u = warp_sum(row_u);
        if (i == mine_k) {
          y += row_y;
          u += row_u;
        }
      }
      if (mine_k < R) {
        qt[mine_k] = -y / static_cast<float>(seen);
        own_t[mine_k] = R == 2 ? 0.0f : u;
      }
    }

    float with_q = 0, with_zhat = 0;
    for (int k = 0; k < lags.count; ++k) {
      if (lags.lag[k] > t) continue;
      const Look<T> look(direction, zt - lags.lag[k] * R, R);
      Pull pull{direction.norm / kEps, 0, 0};
      float with_w = 0;
      if (R == 2) {  // of such pairs G v / (1e-6 n) alone
        if (look.regular)
          pull = {0, 0, 0};
        else if (lane < R)
          own_t[lane] += (lane == 0 ? G[0] : -G[0]) * to_float(zt[1 - lane - lags.lag[k] * R]) /
                         (kEps * static_cast<float>(seen));
      } else if (look.regular) {
        float dot = 0;
        for (int i = lane; i < R; i += kWarp) dot += qt[i] * look.w(direction, i);
        const float qw = warp_sum(dot) / look.w_norm, c = look.a / (direction.norm * look.w_norm);
        with_q -= c;
        with_w = c * qw / look.w_norm;
        with_zhat -= qw / direction.norm;
        pull = {1 / look.w_norm, -qw / look.w_norm / look.w_norm, look.a * direction.inverse};
      } else {
        with_q -= look.a / kEps;
      }
      if (lane == 0) {
        mine[k] = make_float2(look.a, with_w);
        pulls[row * lags.count + k] = pull;
      }
    }
    __syncwarp();
    for (int i = lane; i < R; i += kWarp) {
      float sum = own_t[i] + with_q * qt[i] + with_zhat * direction(i);
      for (int k = 0; k < lags.count; ++k) {
        if (lags.lag[k] > t || mine[k].y == 0) continue;
        sum += mine[k].y * (to_float(zt[i - lags.lag[k] * R]) - mine[k].x * direction(i));
      }
      own_t[i] = sum;
    }
    __syncwarp();
  }
}

template <class T>
void dweight_backward(const Exec& exec, const Sizes& n, const PluckerLinearBackward<T>& args) {
  const std::int64_t count = n.D * n.P;
  if (count == 0) return;
  const std::int64_t tiles =
      static_cast<std::int64_t>(blocks_for(n.D, kProductTile)) * blocks_for(n.P, kProductTile);
  const std::int64_t pieces = std::min(ceil_div(kWantedBlocks, tiles), ceil_div(n.rows, kDweightPieceRows));
  const std::int64_t piece_rows = pieces > 0 ? ceil_div(n.rows, pieces) : 0;

  const auto launch_pieces = [&](float* out, bool add) {
    launch("plucker_linear_dweight", plucker_linear_dweight_kernel<T>, blocks_for(tiles * pieces, 1),
           kProductThreads, 0, exec.stream, n, piece_rows, args.z, args.s, args.dg, out, add);
  };
  if (pieces == 1) return launch_pieces(args.dweight.data, args.dweight.add);
  const Scratch<float> parts(pieces * count);
  if (pieces > 0) launch_pieces(parts.data(), false);
  launch("plucker_linear_add_pieces", plucker_linear_add_pieces_kernel, blocks_for(count, kThreads), kThreads,
         0, exec.stream, pieces, count, parts.data(), args.dweight.data, args.dweight.add);
}

// to =, in chunks of rows; `rounds`: of factors rounded to bfloat16.
template <class T>
void contract_in_chunks(const Exec& exec, const Sizes& n, const Lags& lags,
                        const PluckerLinearBackward<T>& args, bool rounds, const Shares& to) {
  std::int64_t chunk = n.P > 0 ? kDeltaFloats / n.P / kProductTile * kProductTile : n.rows;
  if (chunk < kProductTile) chunk = kProductTile;
  if (chunk > n.rows) chunk = n.rows;
  const Scratch<float> dfeatures(chunk * n.P);
  for (std::int64_t first = 0; first < n.rows; first += chunk) {
    const std::int64_t count = n.rows - first < chunk ? n.rows - first : chunk;
    const Gemm<T, float> product{.M = count,
                                 .N = n.P,
                                 .K = n.D,
                                 .A = {args.dg + first * n.D, n.D},
                                 .B = {args.weight, n.P},
                                 .C = {dfeatures.data(), n.P}};
    if constexpr (std::is_same_v<T, float>)
      rounds ? cu::gemm<T>(exec, product) : gemm_to(exec, product);  // the former as exec says
    else
      gemm_to(exec, product);
    launch("plucker_linear_contract", plucker_linear_contract_kernel<T>, blocks_for(count, kWarps), kThreads,
           0, exec.stream, n, lags, first, count, args.z, args.s, dfeatures.data(), to.q, to.own, to.pulls);
  }
}

// `dg` is null where the products are not on tensor cores.
template <class T>
void dz_backward(const Exec& exec, const Sizes& n, const PluckerLinearBackward<T>& args, const Rounded* dg) {
  if (n.rows == 0 || n.R == 0) return;
  const Lags lags = lags_of(args);
  const Scratch<float> q(n.rows * n.R), own(n.rows * n.R);
  const Scratch<Pull> pulls(n.rows * lags.count);
  const Shares shares{q.data(), own.data(), pulls.data()};
  if (dg != nullptr && contract_fits(n.D)) {
    const bool made = args.weight_ring != nullptr;
    const Scratch<BFloat16> w(made ? 0 : plucker_ring_elements<T>(exec, n.R, n.D));
    if (!made) to_ring(exec, n, args.weight, w.data());
    contract_product(exec, n, lags, args, made ? args.weight_ring : w.data(), *dg, shares);
  } else {
    contract_in_chunks(exec, n, lags, args, dg != nullptr, shares);
  }
  gather(exec, n, lags, args, shares);
}

}  // namespace

template <class T>
void plucker_linear_forward(const Exec& exec, const PluckerLinearForward<T>& args) {
  const Sizes n = sizes_of(args);
  const Lags lags = lags_of(args);
  if (n.rows == 0) return;
  const bool on_cores = on_tensor_cores<T>(exec, n);
  if (n.R > kRing)
    launch("plucker_linear_states", plucker_linear_states_kernel<T>, blocks_for(n.rows, kWarps), kThreads, 0,
           exec.stream, n, lags, args.z, args.s);
  else if (n.R > 0 && !(on_cores && forward_makes_states(n)))
    launch("plucker_linear_states_ring", plucker_linear_states_ring_kernel<T>,
           blocks_for(n.rows, kRingThreads / kLanesOfRow), kRingThreads, 0, exec.stream, n, lags, args.z,
           args.s, whole_rows(n, args.z, args.s));
  if (on_cores) {
    const Scratch<BFloat16> own(args.weight_ring != nullptr ? 0 : plucker_ring_elements<T>(exec, n.R, n.D));
    BFloat16* const w = args.weight_ring != nullptr ? args.weight_ring : own.data();
    to_ring(exec, n, args.weight, w);
    return forward_product(exec, n, lags, args.z, args.s, w, args.bias, args.g);
  }
  const std::int64_t tiles =
      static_cast<std::int64_t>(blocks_for(n.rows, kProductTile)) * blocks_for(n.D, kProductTile);
  if (tiles > 0)
    launch("plucker_linear_product", plucker_linear_product_kernel<T>, blocks_for(tiles, 1), kProductThreads,
           0, exec.stream, n, args.z, args.s, args.weight, args.bias, args.g);
}

bool plucker_linear_reads_rounded(std::int64_t D) {
  return D % 8 == 0 && contract_fits(D);
}

template <class T>
void plucker_linear_backward(const Exec& exec, const PluckerLinearBackward<T>& args) {
  const Sizes n = sizes_of(args);
  const bool on_cores = on_tensor_cores<T>(exec, n) && (args.dweight || args.dz);
  const BFloat16* at_hand = args.dg_rounded;
  if constexpr (std::is_same_v<T, BFloat16>) at_hand = args.dg;
  const bool is_rounded = at_hand != nullptr && n.D % 8 == 0 && all_aligned(16, at_hand);
  const bool rounds = on_cores && !is_rounded;
  const std::int64_t pitch = round_up(n.D, 8);
  const Scratch<BFloat16> copy(rounds ? n.rows * pitch : 0);
  if ((args.dbias || rounds) && n.D > 0) {
    const ColumnSums<1> sums(n.rows, n.D);
    launch("plucker_linear_dbias", plucker_linear_dbias_kernel<T>, sums.grid(), kTileThreads, 0, exec.stream,
           n.rows, n.D, args.dg, sums.partials(), rounds ? copy.data() : nullptr, pitch);
    if (args.dbias) sums.add_up(exec, "plucker_linear_dbias_totals", args.dbias);
  }
  const Rounded dg{rounds ? copy.data() : at_hand, pitch};
  if (args.dweight) {
    if (on_cores)
      dweight_product(exec, n, args.z, args.s, dg, args.dweight.data, args.dweight.add);
    else
      dweight_backward(exec, n, args);
  }
  if (args.dz) dz_backward(exec, n, args, on_cores ? &dg : nullptr);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(plucker_linear_forward, PluckerLinearForward)
WEDGE_INSTANTIATE_CUDA(plucker_linear_backward, PluckerLinearBackward)
}  // namespace wedge
