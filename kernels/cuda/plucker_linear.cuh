// What the kernels of plucker_linear.cu share: the lags, the geometry of a position and one that it looks
// back at (a warp does it, its lanes along R), and the features z ∧ s as an operand that is made on the way.
#pragma once

#include <limits>

#include <string>

#include "kernels/cuda/product_tile.cuh"
#include "kernels/plucker_linear.h"

namespace wedge::cu::plucker {

inline constexpr int kMaxLags = 128;
inline constexpr std::int64_t kMaxReduced = 4096;  // pairs and their numbers stay well within an int
inline constexpr int kThreads = 256;
inline constexpr int kWarps = kThreads / kWarp;

inline constexpr float kEps = static_cast<float>(kPluckerEps);
inline constexpr float kRounding = 4 * std::numeric_limits<float>::epsilon();

struct Sizes {
  std::int64_t rows, L, D;
  int R, P;
};

template <class Args>
Sizes sizes_of(const Args& args) {
  if (args.R > kMaxReduced)
    fail("plucker_linear",
         "expected R of at most " + std::to_string(kMaxReduced) + ", got " + std::to_string(args.R));
  const auto R = static_cast<int>(args.R);
  return {args.B * args.L, args.L, args.D, R, R * (R - 1) / 2};
}

// The lags that some position has, that is those < L.
struct Lags {
  int count;
  std::int64_t lag[kMaxLags];
};

template <class Args>
Lags lags_of(const Args& args) {
  if (args.lags.size() > kMaxLags)
    fail("plucker_linear",
         "expected at most " + std::to_string(kMaxLags) + " lags, got " + std::to_string(args.lags.size()));
  Lags lags{};
  for (const std::int64_t lag : args.lags)
    if (lag < args.L) lags.lag[lags.count++] = lag;
  return lags;
}

// The number of lags of position t.
__device__ inline int count_seen(const Lags& lags, std::int64_t t) {
  int n = 0;
  for (int k = 0; k < lags.count; ++k) n += lags.lag[k] <= t;
  return n;
}

// What z_{t-Δ} gets from t: dz += q · q_t + w · (z_{t-Δ} - slope · z_t).
struct Pull {
  float q, w, slope;
};

// What gather makes dz of: q and own [rows, R], and pulls [rows, lags] for the lags that a row has.
struct Shares {
  float *q, *own;
  Pull* pulls;
};

// The row that this warp starts with, and the rows of all warps together.
__device__ inline std::int64_t first_row() {
  return static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
}
__device__ inline std::int64_t row_step() {
  return static_cast<std::int64_t>(gridDim.x) * kWarps;
}

// z of one position and its length, in all lanes; z = 0 has direction 0.
template <class T>
struct Direction {
  const T* z;
  float norm, inverse;

  __device__ Direction(const T* z_, int R) : z(z_) {
    float square = 0;
    for (int i = lane_of_warp(); i < R; i += kWarp) square += to_float(z[i]) * to_float(z[i]);
    norm = sqrtf(warp_sum(square));
    inverse = norm > 0 ? 1 / norm : 0.0f;
  }
  __device__ float operator()(int i) const { return to_float(z[i]) * inverse; }
};

// What a position and the state v = z_{t-Δ} have between them; w = v - a ẑ.
template <class T>
struct Look {
  const T* v;
  float a, w_norm;  // w_norm is 0 where w counts as 0
  bool regular;     // N > 1e-6

  __device__ Look(const Direction<T>& direction, const T* v_, int R) : v(v_) {
    float dot = 0, square = 0;
    for (int i = lane_of_warp(); i < R; i += kWarp) dot += direction(i) * to_float(v[i]);
    a = warp_sum(dot);
    for (int i = lane_of_warp(); i < R; i += kWarp) square += w(direction, i) * w(direction, i);
    w_norm = sqrtf(warp_sum(square));
    if (w_norm <= kRounding * fabsf(a)) w_norm = 0;
    regular = w_norm > 0 && direction.norm * w_norm > kEps;
  }
  __device__ float w(const Direction<T>& direction, int i) const { return to_float(v[i]) - a * direction(i); }
};

// The pair i < j of a feature's number; i is the outer one.
struct Pair {
  int i, j;

  // Features of pairs whose first is below i.
  __device__ static int before(int i, int R) { return i * (2 * R - i - 1) / 2; }

  __device__ Pair(int p, int R) {
    // The root of before(i) = p, off by a few where float32 is too short.
    const float b = 2.0f * static_cast<float>(R) - 1;
    i = static_cast<int>((b - sqrtf(fmaxf(b * b - 8 * static_cast<float>(p), 0.0f))) / 2);
    while (i > 0 && before(i, R) > p) --i;
    while (i < R - 2 && before(i + 1, R) <= p) ++i;
    j = p - before(i, R) + i + 1;
  }
  __device__ void advance(int features, int R) {
    j += features;
    while (j >= R && i < R) {
      ++i;
      j += i + 1 - R;
    }
  }
};

// The features as rows over depth P, or transposed: for each feature its values over the rows.
template <class T, bool kAlongDepth>
struct FeatureOperand : OperandPlace<kAlongDepth> {
  const T *z, *s;
  int R, P;
  std::int64_t first, rows;
  Pair pair;
  T zi[kProductEach], zj[kProductEach], si[kProductEach], sj[kProductEach];

  // From row or, transposed, from feature `first_`.
  __device__ FeatureOperand(const Sizes& n, const T* z_, const T* s_, std::int64_t first_, std::int64_t rows_)
      : z(z_), s(s_), R(n.R), P(n.P), first(first_), rows(rows_), pair(0, n.R) {
    if constexpr (kAlongDepth) {
      pair.advance(this->depth, R);
    } else if (first + this->row < P) {
      pair = Pair(static_cast<int>(first) + this->row, R);
    }
  }
  __device__ void load(std::int64_t k) {
    const bool is_feature = (kAlongDepth ? k + this->depth : first + this->row) < P;
    for (int which = 0; which < kProductEach; ++which) {
      const std::int64_t row = kAlongDepth ? first + this->row_of(which) : k + this->depth_of(which);
      const bool here = is_feature && row < rows;
      const std::int64_t at = row * R;
      const T zero = from_float<T>(0.0f);
      zi[which] = here ? z[at + pair.i] : zero;
      zj[which] = here ? z[at + pair.j] : zero;
      si[which] = here ? s[at + pair.i] : zero;
      sj[which] = here ? s[at + pair.j] : zero;
    }
    if constexpr (kAlongDepth) pair.advance(kProductDepth, R);
  }
  __device__ float value(int which) const {
    return to_float(zi[which]) * to_float(sj[which]) - to_float(zj[which]) * to_float(si[which]);
  }
};

}  // namespace wedge::cu::plucker
