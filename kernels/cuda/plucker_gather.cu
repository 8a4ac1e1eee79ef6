// dz of plucker_linear: a position's own part and the pulls of the positions that look back at it.
//
// Layout: a warp a position; up to R = 32 four lanes a position, its row in their registers.
#include "kernels/plucker_linear.h"

#include "kernels/cuda/plucker_products.cuh"

namespace wedge::cu {
namespace plucker {
namespace {

constexpr int kPullsAtOnce = 3;  // whose rows are read before the first is used

template <class T>
__global__ void __launch_bounds__(kThreads)
    plucker_linear_gather_kernel(Sizes n, Lags lags, const T* z, const float* q, const float* own,
                                 const Pull* pulls, T* dz, bool add) {
  const int R = n.R;
  for (std::int64_t row = first_row(); row < n.rows; row += row_step()) {
    const std::int64_t left = n.L - row % n.L;
    for (int i = lane_of_warp(); i < R; i += kWarp) {
      const float z_i = to_float(z[row * R + i]);
      float sum = own[row * R + i];
      for (int k = 0; k < lags.count; ++k) {
        if (lags.lag[k] >= left) continue;
        const std::int64_t later = row + lags.lag[k];
        const Pull pull = pulls[later * lags.count + k];
        sum += pull.q * q[later * R + i] + pull.w * (z_i - pull.slope * to_float(z[later * R + i]));
      }
      put(dz + row * R + i, sum, add);
    }
  }
}

// sums[block, R] = Σ over the block's rows of dz, of which this lane has x; every thread must call.
__device__ void sum_block_rows(RingRow x, int R, float* sums) {
  constexpr int kRingWarps = kRingThreads / kWarp;
  WEDGE_SHARED(float, terms, kRingWarps* kRing);
  const int thread = static_cast<int>(threadIdx.x), lane = lane_of_warp();
  for (int offset = kLanesOfRow; offset < kWarp; offset *= 2) {
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) x.x[e] += __shfl_xor_sync(kAllLanes, x.x[e], offset);
  }
  if (lane < kLanesOfRow) {
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) terms[thread / kWarp * kRing + lane * kSlots + e] = x.x[e];
  }
  __syncthreads();
  if (thread >= R) return;
  float total = 0;
  for (int warp = 0; warp < kRingWarps; ++warp) total += terms[warp * kRing + thread];
  sums[static_cast<std::int64_t>(blockIdx.x) * R + thread] = total;
}

// dz of one row for R of at most 32, by four lanes; rows that are not seen as RingState has them.
template <class T>
__device__ RingRow gather_row(const Sizes& n, const Lags& lags, std::int64_t row, const T* z,
                              const Shares& from, bool whole) {
  const std::int64_t left = n.L - row % n.L;
  RingRow z_row, sum;
  z_row.load(z + row * n.R, true, n.R, whole);
  sum.load(from.own + row * n.R, true, n.R, whole);
  for (int first = 0; first < lags.count; first += kPullsAtOnce) {
    RingRow later_z[kPullsAtOnce], later_q[kPullsAtOnce];
    Pull pull[kPullsAtOnce];
    WEDGE_UNROLL
    for (int k = 0; k < kPullsAtOnce; ++k) {
      const bool sees = first + k < lags.count && lags.lag[first + k] < left;
      const std::int64_t later = sees ? row + lags.lag[first + k] : row;
      pull[k] = sees ? from.pulls[later * lags.count + first + k] : Pull{0, 0, 0};
      later_z[k].load(z + later * n.R, true, n.R, whole);
      later_q[k].load(from.q + later * n.R, true, n.R, whole);
    }
    WEDGE_UNROLL
    for (int k = 0; k < kPullsAtOnce; ++k) {
      if (first + k >= lags.count || lags.lag[first + k] >= left) continue;
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e)
        sum.x[e] += pull[k].q * later_q[k].x[e] + pull[k].w * (z_row.x[e] - pull[k].slope * later_z[k].x[e]);
    }
  }
  return sum;
}

// The same for all rows, as plucker_linear_gather_kernel; sums [blocks, R] = those of dz over the block's
// rows, or null.
template <class T>
__global__ void __launch_bounds__(kRingThreads)
    plucker_linear_gather_ring_kernel(Sizes n, Lags lags, const T* z, float* q, float* own, Pull* pulls,
                                      T* dz, BFloat16* dz_rounded, bool add, bool whole, float* sums) {
  const std::int64_t row = thread_in_grid() / kLanesOfRow;
  RingRow sum = {};
  if (row < n.rows) {
    RingRow before;
    before.load(dz + row * n.R, add, n.R, whole);
    sum = gather_row(n, lags, row, z, Shares{q, own, pulls}, whole);
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) sum.x[e] += before.x[e];
    sum.store(dz + row * n.R, n.R, whole);
    if (dz_rounded != nullptr) sum.store(dz_rounded + row * n.R, n.R, whole);
  }
  if (sums != nullptr) sum_block_rows(sum, n.R, sums);
}

}  // namespace

template <class T>
void gather(const Exec& exec, const Sizes& n, const Lags& lags, const PluckerLinearBackward<T>& args,
            const Shares& from) {
  if (n.R > kRing) {
    launch("plucker_linear_gather", plucker_linear_gather_kernel<T>, blocks_for(n.rows, kWarps), kThreads, 0,
           exec.stream, n, lags, args.z, from.q, from.own, from.pulls, args.dz.data, args.dz.add);
    return round_result(n.rows * n.R, args.dz.data, args.dz_rounded);
  }
  launch("plucker_linear_gather_ring", plucker_linear_gather_ring_kernel<T>,
         blocks_for(n.rows, kRingThreads / kLanesOfRow), kRingThreads, 0, exec.stream, n, lags, args.z,
         from.q, from.own, from.pulls, args.dz.data, args.dz_rounded, args.dz.add,
         whole_rows(n, args.z, args.dz.data) && all_aligned(16, args.dz_rounded), args.dz_sums);
}

template void gather(const Exec&, const Sizes&, const Lags&, const PluckerLinearBackward<float>&,
                     const Shares&);
template void gather(const Exec&, const Sizes&, const Lags&, const PluckerLinearBackward<BFloat16>&,
                     const Shares&);

}  // namespace plucker

template <class T>
std::int64_t plucker_linear_dz_pieces(const PluckerLinearBackward<T>& args) {
  return args.R <= plucker::kRing ? blocks_for(args.B * args.L, plucker::kRingThreads / plucker::kLanesOfRow)
                                  : 0;
}

template std::int64_t plucker_linear_dz_pieces(const PluckerLinearBackward<float>&);
template std::int64_t plucker_linear_dz_pieces(const PluckerLinearBackward<BFloat16>&);

}  // namespace wedge::cu
