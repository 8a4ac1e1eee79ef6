// The pairs of up to 32 reduced coordinates in an order that needs no table, for plucker_linear's products on
// tensor cores.
//
// R is filled up with zeros to a ring of 32. Step δ = 1, 2, ..., 16 has the pairs (k, k + δ mod 32), one for
// each k: feature z_k s_{k+δ} - z_{k+δ} s_k, which is minus p_ij where the ring wraps. Step 16 meets
// every pair twice; the second time, k >= 16, does not count. W in that order, with the signs, 0 where there
// is no pair, as bfloat16: w [steps, D, 32], made by forward and kept for backward. Of 512 places 496 are
// pairs where R = 32.
//
// Four lanes, 4 g + t of a warp, have a row of the ring, lane t the slots 8t .. 8t + 7, so that the row's
// partners of the next step are this step's, moved along by one slot: two shuffles for eight features and no
// shared memory. Slot ring_slot(c) lies in column c of the 32, for then the lane's slots are those of its
// accumulators of four mma side by side, and of its fragments of A along two.
#pragma once

#include <cfloat>

#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/plucker_linear.cuh"

namespace wedge::cu::plucker {

inline constexpr int kRing = 32;
inline constexpr int kSlots = 8;  // of a lane
inline constexpr int kLanesOfRow = kRing / kSlots;
inline constexpr int kRingThreads = 128;  // of a block with so many lanes a position and no product

// Steps in which R coordinates have pairs.
__host__ __device__ inline int ring_steps(int R) {
  return R - 1 < kRing / 2 ? R - 1 : kRing / 2;
}
// Columns 2t, 2t + 1 of each of the four groups of 8 are lane t's.
__device__ inline int ring_slot(int column) {
  return column % 8 / 2 * kSlots + column / 8 * 2 + column % 2;
}

// The feature of slot k in step `delta`: its number, or -1 where it has none, and whether the ring wraps.
struct RingPair {
  int feature;
  bool negative;

  __device__ RingPair(int k, int delta, int R) {
    const int j = (k + delta) % kRing;
    negative = j < k;
    const int low = negative ? j : k, high = negative ? k : j;
    const bool twice = 2 * delta == kRing && k >= delta;
    feature = high >= R || twice ? -1 : Pair::before(low, R) + high - low - 1;
  }
};

// Whether rows of z and s can be read and written 16 bytes at a time.
inline bool whole_rows(const Sizes& n, const void* z, const void* s) {
  return n.R == kRing && all_aligned(16, z, s);
}

// Sum over the lanes of a row, in all of them.
__device__ inline float row_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}

// This lane's slots of a row of the ring.
struct RingRow {
  float x[kSlots];

  // Of a row of R coordinates; zeros where the row is not valid and beyond its end. `whole`: R is 32 and the
  // row 16-byte aligned.
  template <class T>
  __device__ void load(const T* row, bool valid, int R, bool whole) {
    const int first = lane_of_warp() % kLanesOfRow * kSlots;
    if (whole && valid) {
      constexpr int kAtOnce = 16 / sizeof(T);
      WEDGE_UNROLL
      for (int at = 0; at < kSlots; at += kAtOnce) {
        const uint4 words = *reinterpret_cast<const uint4*>(row + first + at);
        const std::uint32_t each[4] = {words.x, words.y, words.z, words.w};
        WEDGE_UNROLL
        for (int k = 0; k < 4; ++k) {
          if constexpr (std::is_same_v<T, float>) {
            x[at + k] = __uint_as_float(each[k]);
          } else {
            x[at + 2 * k] = __uint_as_float(each[k] << 16);
            x[at + 2 * k + 1] = __uint_as_float(each[k] & 0xffff0000u);
          }
        }
      }
      return;
    }
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) x[e] = valid && first + e < R ? to_float(row[first + e]) : 0.0f;
  }
  // The same, moved along by `ahead`, a multiple of 4; where R is 32, four slots of `row` are aligned.
  template <class T>
  __device__ void load_ahead(const T* row, int R, int ahead) {
    const int first = lane_of_warp() % kLanesOfRow * kSlots + ahead;
    WEDGE_UNROLL
    for (int at = 0; at < kSlots; at += 4) {
      const int slot = (first + at) % kRing;
      if (R == kRing) {
        const auto four = *reinterpret_cast<const Pack<T, 4>*>(row + slot);
        for (int k = 0; k < 4; ++k) x[at + k] = to_float(four.v[k]);
      } else {
        for (int k = 0; k < 4; ++k) x[at + k] = slot + k < R ? to_float(row[slot + k]) : 0.0f;
      }
    }
  }
  // To what T can hold.
  template <class T>
  __device__ void round() {
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) x[e] = to_float(from_float<T>(x[e]));
  }
  template <class T>
  __device__ void store(T* row, int R, bool whole) const {
    const int first = lane_of_warp() % kLanesOfRow * kSlots;
    if (whole) {
      constexpr int kAtOnce = 16 / sizeof(T);
      WEDGE_UNROLL
      for (int at = 0; at < kSlots; at += kAtOnce) {
        std::uint32_t each[4];
        WEDGE_UNROLL
        for (int k = 0; k < 4; ++k) {
          if constexpr (std::is_same_v<T, float>)
            each[k] = __float_as_uint(x[at + k]);
          else
            each[k] = pack_bf16(x[at + 2 * k], x[at + 2 * k + 1]);
        }
        *reinterpret_cast<uint4*>(row + first + at) = make_uint4(each[0], each[1], each[2], each[3]);
      }
      return;
    }
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e)
      if (first + e < R) row[first + e] = from_float<T>(x[e]);
  }
  // Every slot takes what the next one has. All lanes of the warp must call.
  __device__ void advance() {
    const int lane = lane_of_warp();
    const float last = __shfl_sync(kAllLanes, x[0], (lane & ~3) | ((lane + 1) & 3));
    WEDGE_UNROLL
    for (int e = 0; e + 1 < kSlots; ++e) x[e] = x[e + 1];
    x[kSlots - 1] = last;
  }
  // advance() so many times, the same number in all lanes.
  __device__ void advance(int slots) {
    const int lane = lane_of_warp(), ahead = slots / kSlots;
    if (ahead > 0) {
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e)
        x[e] = __shfl_sync(kAllLanes, x[e], (lane & ~3) | ((lane + ahead) & 3));
    }
    for (int k = ahead * kSlots; k < slots; ++k) advance();
  }
};

// sqrt(x) within 3 units in the last place, without sqrtf's branch: what is around it then is one stretch of
// code, whose latencies overlap.
__device__ inline float root(float x) {
  return x > 0 && x <= FLT_MAX ? x * rsqrtf(x) : x;
}

// Direction and Look of plucker_linear.cuh, in a row's four lanes, of kCount rows v at once.
struct RingDirection {
  RingRow zhat;
  float norm, inverse;

  __device__ explicit RingDirection(const RingRow& z) {
    float square = 0;
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) square += z.x[e] * z.x[e];
    square = row_sum(square);
    // A step of Newton's: with rsqrtf's own error a vector's own multiple would seem to leave its line.
    const float rough = rsqrtf(square), better = rough * (1.5f - 0.5f * square * rough * rough);
    const bool finite = square > 0 && square <= FLT_MAX;
    inverse = finite ? better : 0.0f;
    norm = finite ? square * better : square;
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) zhat.x[e] = z.x[e] * inverse;
  }
};
template <int kCount>
struct RingLooks {
  float a[kCount], w_norm[kCount];
  bool regular[kCount];

  // v becomes w.
  __device__ RingLooks(const RingDirection& direction, RingRow (&v)[kCount]) {
    float square[kCount];
    WEDGE_UNROLL
    for (int k = 0; k < kCount; ++k) {
      float dot = 0;
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e) dot += direction.zhat.x[e] * v[k].x[e];
      a[k] = row_sum(dot);
    }
    WEDGE_UNROLL
    for (int k = 0; k < kCount; ++k) {
      square[k] = 0;
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e) {
        v[k].x[e] -= a[k] * direction.zhat.x[e];
        square[k] += v[k].x[e] * v[k].x[e];
      }
      square[k] = row_sum(square[k]);
    }
    WEDGE_UNROLL
    for (int k = 0; k < kCount; ++k) {
      w_norm[k] = root(square[k]);
      if (w_norm[k] <= kRounding * fabsf(a[k])) w_norm[k] = 0;
      regular[k] = w_norm[k] > 0 && direction.norm * w_norm[k] > kEps;
    }
  }
};

// s of position t from z. The rows of up to kAtOnce lags are asked for by look_back(first) and used by
// add(first), for first = 0, kAtOnce, ... below the number of lags; where a lag is not seen, a row that is
// there is read in its place and not used.
struct RingState {
  static constexpr int kAtOnce = 6;
  RingRow own, sum, earlier[kAtOnce];
  std::int64_t t;
  float seen;

  template <class T>
  __device__ void load(const T* z_row, std::int64_t t_, int R, bool whole) {
    t = t_;
    own.load(z_row, true, R, whole);
    WEDGE_UNROLL
    for (int e = 0; e < kSlots; ++e) sum.x[e] = 0;
  }
  __device__ void count(const Lags& lags) { seen = static_cast<float>(count_seen(lags, t)); }
  __device__ bool sees(const Lags& lags, int k) const { return k < lags.count && lags.lag[k] <= t; }
  template <class T>
  __device__ void look_back(const Lags& lags, int first, const T* z_row, int R, bool whole) {
    WEDGE_UNROLL
    for (int k = 0; k < kAtOnce; ++k)
      earlier[k].load(z_row - (sees(lags, first + k) ? lags.lag[first + k] * R : 0), true, R, whole);
  }
  // All lanes of the warp must call.
  __device__ void add(const Lags& lags, int first) {
    const RingDirection direction(own);
    const RingLooks<kAtOnce> looks(direction, earlier);
    WEDGE_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      const float N = looks.regular[k] ? direction.norm * looks.w_norm[k] : kEps;
      const float share = sees(lags, first + k) && looks.w_norm[k] > 0 ? reciprocal_approx(seen * N) : 0.0f;
      WEDGE_UNROLL
      for (int e = 0; e < kSlots; ++e) sum.x[e] += share * earlier[k].x[e];
    }
  }
};

// The features of a row, step after step.
struct RingFeatures {
  RingRow z, s, z_partner, s_partner;

  // Starts before step 1.
  template <class T>
  __device__ void load(const T* z_row, const T* s_row, bool valid, int R, bool whole) {
    z.load(z_row, valid, R, whole);
    s.load(s_row, valid, R, whole);
    z_partner = z;
    s_partner = s;
  }
  // The same of a row of z and of s.
  __device__ void start(const RingRow& z_row, const RingRow& s_row) {
    z = z_partner = z_row;
    s = s_partner = s_row;
  }
  // Starts `ahead` steps later, a multiple of 4.
  template <class T>
  __device__ void load_ahead(const T* z_row, const T* s_row, int R, int ahead) {
    z.load_ahead(z_row, R, 0);
    s.load_ahead(s_row, R, 0);
    z_partner.load_ahead(z_row, R, ahead);
    s_partner.load_ahead(s_row, R, ahead);
  }
  __device__ void advance() {
    z_partner.advance();
    s_partner.advance();
  }
  __device__ void advance(int steps) {
    z_partner.advance(steps);
    s_partner.advance(steps);
  }
  // Features 2 pair and 2 pair + 1 of this lane's eight.
  __device__ std::uint32_t rounded(int pair) const {
    float f[2];
    WEDGE_UNROLL
    for (int b = 0; b < 2; ++b) {
      const int e = 2 * pair + b;
      f[b] = z.x[e] * s_partner.x[e] - z_partner.x[e] * s.x[e];
    }
    return pack_bf16(f[0], f[1]);
  }
};

}  // namespace wedge::cu::plucker
