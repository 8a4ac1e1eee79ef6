// The Grassmann mixer's geometry: mean unit Plücker vectors of pairs of reduced states, times W_plu.
// Section 3.2 of arXiv 2512.19428, computed by one wedge product a position instead of one a lag.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>

#include "kernels/exec.h"

namespace wedge {

inline constexpr double kPluckerEps = 1e-6;

// Elements of the weight as products on tensor cores take it, which forward makes and backward can use again;
// 0 where there are none such: they are for the GPU, in bfloat16 or with products so, and R of 3 to 32.
template <class T>
std::int64_t plucker_ring_elements(const Exec& exec, std::int64_t R, std::int64_t D) {
  const bool rounds = std::is_same_v<T, BFloat16> || exec.bf16_products;
  if (exec.device != Device::cuda || !rounds || R < 3 || R > 32) return 0;
  return std::min<std::int64_t>(R - 1, 16) * D * 32;
}

// With v_Δ = z_{t-Δ}, ẑ = z_t / ‖z_t‖, a_Δ = ẑ·v_Δ, w_Δ = v_Δ - a_Δ ẑ, N_Δ = ‖z_t‖ ‖w_Δ‖ and n the number of
// lags <= t:
//   s_t = Σ_Δ w_Δ / (n max(N_Δ, 1e-6))
//   p̄_t = z_t ∧ s_t            p_ij = z_i s_j - z_j s_i, i < j, i outer
//   g_t = W p̄_t + b
// The wedge is bilinear and z ∧ v = z ∧ w, so p̄_t is the mean of the unit Plücker vectors. No T × P tensor
// is kept. A w_Δ that is no longer than the rounding of v_Δ counts as 0, on every device: in float32 it can
// exceed 1e-6.
template <class T>
struct PluckerLinearForward {
  std::int64_t B, L, R, D;
  std::span<const std::int64_t> lags;  // each >= 1; on the host
  const T* z;                          // [B, L, R]
  const T* weight;                     // [D, P], P = R (R - 1) / 2
  const T* bias;                       // [D] or null
  T* s;                                // [B, L, R] =, of the positions of g, for backward
  T* g;                                // [B, L - begin, D] =
  BFloat16* weight_ring = nullptr;     // [plucker_ring_elements] =, 16-byte aligned, for backward, or null
  std::int64_t begin = 0;              // g's first position. CPU: backward takes all; on the GPU always 0
};

// G is the antisymmetric R × R matrix of dL/dp̄_t = dg_t W, and q = -G ẑ / n, ŵ = w / ‖w‖. For each lag of t:
//   N > 1e-6:  dz_{t-Δ} += (q - (q·ŵ) ŵ) / ‖w‖
//              dz_t     += x - (x·ẑ) ẑ - (x·ŵ) ŵ,   x = G ŵ / (n ‖z_t‖) - a q / (‖z_t‖ ‖w‖)
//   else:      dz_{t-Δ} += ‖z_t‖ q / 1e-6;          dz_t += G v / (1e-6 n)
// Where R is 2, p̂ is ±1 and the first case nothing: its terms, of the size 1 / ‖w‖, are left out.
// Any of dz, dweight, dbias may be null.
template <class T>
struct PluckerLinearBackward {
  std::int64_t B, L, R, D;
  std::span<const std::int64_t> lags;
  const T* z;                             // [B, L, R]
  const T* s;                             // [B, L, R]
  const T* weight;                        // [D, P]
  const T* dg;                            // [B, L, D]
  Sink<T> dz;                             // [B, L, R] (+)=
  Sink<Stat<T>> dweight;                  // [D, P] (+)=
  Sink<Stat<T>> dbias;                    // [D] (+)=
  BFloat16* dz_rounded = nullptr;         // CUDA: dz as it is then, or null
  const BFloat16* weight_ring = nullptr;  // what forward made of this weight, or null
  const BFloat16* dg_rounded = nullptr;   // CUDA: dg, if that is at hand
  // CUDA: [plucker_linear_dz_pieces(args), R] = sums over parts of the rows of what dz holds then, before it
  // is rounded to T; or null
  float* dz_sums = nullptr;
};

namespace cu {
// How many such sums plucker_linear_backward can make of dz; 0: none, with these sizes.
template <class T>
std::int64_t plucker_linear_dz_pieces(const PluckerLinearBackward<T>& args);
// Whether dz and dweight of products on tensor cores need nothing of dg but dg_rounded, for this D.
bool plucker_linear_reads_rounded(std::int64_t D);
}  // namespace cu

WEDGE_KERNEL(plucker_linear_forward, PluckerLinearForward)
WEDGE_KERNEL(plucker_linear_backward, PluckerLinearBackward)

}  // namespace wedge
