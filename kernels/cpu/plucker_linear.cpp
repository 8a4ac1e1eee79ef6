// Features are made for kChunk positions at a time, right before the product that reads them, and stay in
// cache.
//
// Backward needs two products with G a position, whatever the number of lags. G is antisymmetric, so
// ŵ·Gŵ = ẑ·Gẑ = 0 and ẑ·Gŵ = n q·ŵ; the sum over the lags of G ŵ / (n ‖z‖) is then G s, and what is left
// needs only scalars:
//   N > 1e-6:  dz_t += G-part - c (q - (q·ŵ) ŵ) - ((q·ŵ) / ‖z‖) ẑ,  c = a / (‖z‖ ‖w‖)
//   else:      G v / (1e-6 n) = (G w - a n q) / (1e-6 n): the G-part holds G w, and - (a / 1e-6) q is left
// Where R is 2 a regular pair's p̂ is ±1, and all of these cancel: its gradient is 0, not what rounding
// leaves. dz of a position is gathered from itself and from the positions that look back at it: no two
// threads write one row.
#include "kernels/plucker_linear.h"

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/matmul.h"
#include "kernels/reduce.h"

namespace wedge::cpu {
namespace {

constexpr std::int64_t kChunk = 512;

// What a position t and the state v = z_{t-Δ} have between them.
template <class T>
struct Pair {
  T a, w_norm;
  bool regular;  // N > 1e-6
};

// The direction and length of z_t; z = 0 has direction 0.
template <class T>
T direction_of(const T* z, std::int64_t R, T* zhat) {
  const T norm = std::sqrt(as_array(z, R).square().sum());
  as_array(zhat, R) = as_array(z, R) * (norm > T(0) ? T(1) / norm : T(0));
  return norm;
}

// Writes w = v - (ẑ·v) ẑ, which is exactly 0 where v is a multiple of z.
template <class T>
Pair<T> pair_of(const T* zhat, T z_norm, const T* v, std::int64_t R, T* w) {
  const T a = (as_array(zhat, R) * as_array(v, R)).sum();
  as_array(w, R) = as_array(v, R) - a * as_array(zhat, R);
  const T w_norm = std::sqrt(as_array(w, R).square().sum());
  // Where v is a multiple of z, w is what rounding leaves of v, and 1e-6 may be less than that: it is 0 then.
  if (w_norm <= T(4) * std::numeric_limits<T>::epsilon() * std::abs(a)) {
    as_array(w, R).setZero();
    return {a, T(0), false};
  }
  return {a, w_norm, z_norm * w_norm > static_cast<T>(kPluckerEps)};
}

std::int64_t count_lags(std::span<const std::int64_t> lags, std::int64_t position) {
  return std::count_if(lags.begin(), lags.end(), [position](std::int64_t lag) { return lag <= position; });
}

// f = z ∧ s
template <class T>
void wedge_features(const T* z, const T* s, std::int64_t R, T* f) {
  for (std::int64_t i = 0; i + 1 < R; ++i) {
    const T zi = z[i], si = s[i];
#pragma omp simd
    for (std::int64_t j = i + 1; j < R; ++j) f[j - i - 1] = zi * s[j] - z[j] * si;
    f += R - 1 - i;
  }
}

// f = z ∧ s of rows row_of(first), row_of(first + 1), ... of z and s.
template <class T, class RowOf>
void features_of_rows(const T* z, const T* s, std::int64_t R, std::int64_t first, std::int64_t count,
                      const RowOf& row_of, T* f) {
  const std::int64_t P = R * (R - 1) / 2;
  parallel_rows(count, 2 * P, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = row_of(first + i) * R;
      wedge_features(z + at, s + at, R, f + i * P);
    }
  });
}

// y += G x and u += G v, where `upper` holds G's entries above the diagonal.
template <class T>
void antisymmetric_products(const T* upper, std::int64_t R, const T* x, T* y, const T* v, T* u) {
  for (std::int64_t i = 0; i + 1 < R; ++i) {
    T yi = 0, ui = 0;
    const T xi = x[i], vi = v[i];
#pragma omp simd reduction(+ : yi, ui)
    for (std::int64_t j = i + 1; j < R; ++j) {
      const T g = upper[j - i - 1];
      yi += g * x[j];
      ui += g * v[j];
      y[j] -= g * xi;
      u[j] -= g * vi;
    }
    y[i] += yi;
    u[i] += ui;
    upper += R - 1 - i;
  }
}

}  // namespace

template <class T>
void plucker_linear_forward(const Exec& exec, const PluckerLinearForward<T>& args) {
  const std::int64_t R = args.R, P = R * (R - 1) / 2, length = args.L - args.begin, rows = args.B * length;
  // The row of z and s that row i of g is made of.
  const auto row_of = [&](std::int64_t i) { return i / length * args.L + args.begin + i % length; };
  parallel_rows(rows, 2 * R * static_cast<std::int64_t>(args.lags.size() + 1),
                [&](std::int64_t begin, std::int64_t end) {
                  std::vector<T> zhat(R), w(R);
                  for (std::int64_t i = begin; i < end; ++i) {
                    const std::int64_t row = row_of(i), t = row % args.L, n = count_lags(args.lags, t);
                    const T* z = args.z + row * R;
                    auto s = as_array(args.s + row * R, R);
                    s.setZero();
                    const T z_norm = direction_of(z, R, zhat.data());
                    for (const std::int64_t lag : args.lags) {
                      if (lag > t) continue;
                      const Pair<T> pair = pair_of(zhat.data(), z_norm, z - lag * R, R, w.data());
                      s += as_array(w.data(), R) /
                           (static_cast<T>(n) * (pair.regular ? z_norm * pair.w_norm : T(kPluckerEps)));
                    }
                  }
                });
  const Scratch<T> features(std::min(kChunk, rows) * P);
  for (std::int64_t first = 0; first < rows; first += kChunk) {
    const std::int64_t count = std::min(kChunk, rows - first);
    features_of_rows(args.z, args.s, R, first, count, row_of, features.data());
    T* g = args.g + first * args.D;
    if (args.bias != nullptr)
      for (std::int64_t i = 0; i < count; ++i) std::copy_n(args.bias, args.D, g + i * args.D);
    cpu::gemm<T>(exec, {.M = count,
                        .N = args.D,
                        .K = P,
                        .A = {features.data(), P},
                        .B = transposed(args.weight, P),
                        .C = {g, args.D},
                        .beta = args.bias != nullptr ? T(1) : T(0)});
  }
}

template <class T>
void plucker_linear_backward(const Exec& exec, const PluckerLinearBackward<T>& args) {
  const std::int64_t rows = args.B * args.L, R = args.R, D = args.D, P = R * (R - 1) / 2;
  if (args.dbias) cpu::reduce<T>(exec, {ReduceOp::sum, 1, rows, D, args.dg, args.dbias});
  if (rows == 0 && args.dweight && !args.dweight.add) std::fill_n(args.dweight.data, D * P, T(0));

  const Scratch<T> features(std::min(kChunk, rows) * P), q(rows * R);
  for (std::int64_t first = 0; first < rows; first += kChunk) {
    const std::int64_t count = std::min(kChunk, rows - first);
    const T* dg = args.dg + first * D;
    if (args.dweight) {
      features_of_rows(args.z, args.s, R, first, count, std::identity(), features.data());
      cpu::gemm<T>(exec, {.M = D,
                          .N = P,
                          .K = count,
                          .A = transposed(dg, D),
                          .B = {features.data(), P},
                          .C = {args.dweight.data, P},
                          .beta = args.dweight.add || first > 0 ? T(1) : T(0)});
    }
    if (!args.dz) continue;
    T* dfeatures = features.data();
    cpu::gemm<T>(exec,
                 {.M = count, .N = P, .K = D, .A = {dg, D}, .B = {args.weight, P}, .C = {dfeatures, P}});
    // dz_t's own part, and q_t for the positions that t looks back at.
    parallel_rows(count, 4 * P, [&](std::int64_t begin, std::int64_t end) {
      std::vector<T> zhat(R), w(R), own(R);
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t row = first + i, t = row % args.L, n = count_lags(args.lags, t);
        const T* z = args.z + row * R;
        auto qt = as_array(q.data() + row * R, R);
        auto dz = as_array(own.data(), R);
        qt.setZero();
        dz.setZero();
        if (n > 0) {
          const T z_norm = direction_of(z, R, zhat.data());
          antisymmetric_products(dfeatures + i * P, R, zhat.data(), qt.data(), args.s + row * R, dz.data());
          qt /= -static_cast<T>(n);
          if (R == 2) dz.setZero();
          for (const std::int64_t lag : args.lags) {
            if (lag > t) continue;
            const Pair<T> pair = pair_of(zhat.data(), z_norm, z - lag * R, R, w.data());
            if (R == 2) {
              const T g = dfeatures[i] / (static_cast<T>(kPluckerEps) * static_cast<T>(n));
              const T* v = z - lag * R;
              if (!pair.regular) dz[0] += g * v[1], dz[1] -= g * v[0];
            } else if (pair.regular) {
              const auto what = as_array(w.data(), R) / pair.w_norm;
              const T qw = (qt * what).sum(), c = pair.a / (z_norm * pair.w_norm);
              dz -= c * (qt - qw * what) + (qw / z_norm) * as_array(zhat.data(), R);
            } else {
              dz -= (pair.a / static_cast<T>(kPluckerEps)) * qt;
            }
          }
        }
        store_row(args.dz, row * R, R, dz);
      }
    });
  }
  if (!args.dz) return;

  parallel_rows(rows, 4 * R * static_cast<std::int64_t>(args.lags.size() + 1),
                [&](std::int64_t begin, std::int64_t end) {
                  std::vector<T> zhat(R), w(R);
                  for (std::int64_t row = begin; row < end; ++row) {
                    const std::int64_t position = row % args.L;
                    auto dz = as_array(args.dz.data + row * R, R);
                    for (const std::int64_t lag : args.lags) {
                      if (lag >= args.L - position) continue;
                      const std::int64_t later = row + lag;
                      const T z_norm = direction_of(args.z + later * R, R, zhat.data());
                      const Pair<T> pair = pair_of(zhat.data(), z_norm, args.z + row * R, R, w.data());
                      const auto qt = as_array(static_cast<const T*>(q.data()) + later * R, R);
                      if (pair.regular && R == 2) continue;
                      if (pair.regular) {
                        const auto what = as_array(w.data(), R) / pair.w_norm;
                        const T qw = (qt * what).sum();
                        dz += (qt - qw * what) / pair.w_norm;
                      } else {
                        dz += (z_norm / static_cast<T>(kPluckerEps)) * qt;
                      }
                    }
                  }
                });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(plucker_linear_forward, PluckerLinearForward)
WEDGE_INSTANTIATE_CPU(plucker_linear_backward, PluckerLinearBackward)
}  // namespace wedge
