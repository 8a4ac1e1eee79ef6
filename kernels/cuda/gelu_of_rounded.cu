// GELU between two products of bfloat16 factors: y = v Φ(v), du = dy · (Φ(v) + v φ(v)) with v = u + bias.
//
// Φ is made of the Gaussian density that backward needs anyway, by formula 26.2.17 of Abramowitz and Stegun,
// Handbook of Mathematical Functions (absolute error below 7.5e-8): erff and expf would take so many
// instructions that they, not the bytes, set the pace.
//
// Layout: column tiles as in column_sums.cuh, but where D and the pointers allow it a lane has eight
// neighbours (16 bytes), and asks for eight rows before it uses the first: up to 32,768 rows for all that it
// has, so that arithmetic and memory take turns by the row. A thread sums du over its columns, the warps are
// added in order, and column_sums.cuh adds the pieces. Bytes moved: 2 for each value read or written, once.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/linear.h"

namespace wedge::cu {
namespace {

constexpr int kWide = 8;      // bfloat16 of 16 bytes
constexpr int kTogether = 8;  // rows that are loaded before the first is used

// 1 - Φ(|x|), and e^(-x²/2) of which it is made.
struct Tail {
  float tail, exponential;
};
__device__ inline Tail gaussian_tail(float x) {
  constexpr float kPeak = kGaussianPeak;
  const float exponential = gaussian_exponential(x);
  const float t = reciprocal_approx(1 + 0.2316419f * fabsf(x));
  const float sum =
      kPeak * 0.319381530f +
      t * (kPeak * -0.356563782f +
           t * (kPeak * 1.781477937f + t * (kPeak * -1.821255978f + t * (kPeak * 1.330274429f))));
  return {exponential * t * sum, exponential};
}
// x Φ(x)
__device__ inline float gelu(float x) {
  return fmaxf(x, 0) - fminf(fabsf(x), kFarOut) * gaussian_tail(x).tail;
}
// Φ(x) + x φ(x)
__device__ inline float gelu_slope(float x) {
  const Tail t = gaussian_tail(x);
  return 0.5f + copysignf(0.5f + (fminf(fabsf(x), kFarOut) * kGaussianPeak * t.exponential - t.tail), x);
}

// kWidth neighbours as they lie in memory.
template <int kWidth>
struct Rounded {
  Pack<std::uint32_t, kWidth / 2> pairs;

  __device__ static Rounded load(const BFloat16* p) {
    return {*reinterpret_cast<const Pack<std::uint32_t, kWidth / 2>*>(p)};
  }
  __device__ Floats<kWidth> values() const {
    Floats<kWidth> x;
    for (int k = 0; k < kWidth / 2; ++k) {
      x.v[2 * k] = __uint_as_float(pairs.v[k] << 16);
      x.v[2 * k + 1] = __uint_as_float(pairs.v[k] & 0xffff0000u);
    }
    return x;
  }
};
template <>
struct Rounded<1> {
  BFloat16 value;

  __device__ static Rounded load(const BFloat16* p) { return {*p}; }
  __device__ Floats<1> values() const { return {{to_float(value)}}; }
};

template <int kWidth>
__device__ Floats<kWidth> bias_at(const float* bias, std::int64_t column) {
  return bias != nullptr ? *reinterpret_cast<const Floats<kWidth>*>(bias + column) : Floats<kWidth>{};
}

template <int kWidth>
__global__ void __launch_bounds__(kTileThreads, 2) gelu_of_rounded_kernel(GeluOfRounded a) {
  const ColumnTile<kWidth> tile(a.rows, a.D);
  if (tile.first >= tile.end) return;
  const Floats<kWidth> bias = bias_at<kWidth>(a.bias, tile.column);
  const std::int64_t step = kTileWarps * a.D;  // between rows of a warp
  const std::int64_t start = tile.first * a.D + tile.column;
  const BFloat16* in = a.u + start;
  BFloat16* out = a.y + start;
  for (std::int64_t row = tile.first; row < tile.end; row += kTogether * kTileWarps) {
    Rounded<kWidth> u[kTogether];
    WEDGE_UNROLL
    for (int r = 0; r < kTogether; ++r, in += step)
      if (row + r * kTileWarps < tile.end) u[r] = Rounded<kWidth>::load(in);
    WEDGE_UNROLL
    for (int r = 0; r < kTogether; ++r, out += step) {
      if (row + r * kTileWarps >= tile.end) break;
      Floats<kWidth> y = u[r].values();
      WEDGE_UNROLL
      for (int k = 0; k < kWidth; ++k) y.v[k] = gelu(y.v[k] + bias.v[k]);
      store_floats(out, y);
    }
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kTileThreads, 2)
    gelu_of_rounded_backward_kernel(GeluOfRoundedBackward a, float* partials) {
  const ColumnTile<kWidth> tile(a.rows, a.D);
  Floats<kWidth> sums{};
  const Floats<kWidth> bias = tile.column < a.D ? bias_at<kWidth>(a.bias, tile.column) : Floats<kWidth>{};
  const std::int64_t step = kTileWarps * a.D;
  std::int64_t at = tile.first * a.D + tile.column, to = at;
  for (std::int64_t row = tile.first; row < tile.end; row += kTogether * kTileWarps) {
    Rounded<kWidth> u[kTogether], dy[kTogether];
    WEDGE_UNROLL
    for (int r = 0; r < kTogether; ++r, at += step)
      if (row + r * kTileWarps < tile.end) {
        u[r] = Rounded<kWidth>::load(a.u + at);
        dy[r] = Rounded<kWidth>::load(a.dy + at);
      }
    WEDGE_UNROLL
    for (int r = 0; r < kTogether; ++r, to += step) {
      if (row + r * kTileWarps >= tile.end) break;
      const Floats<kWidth> v = u[r].values();
      Floats<kWidth> du = dy[r].values();
      WEDGE_UNROLL
      for (int k = 0; k < kWidth; ++k) {
        du.v[k] *= gelu_slope(v.v[k] + bias.v[k]);
        sums.v[k] += du.v[k];
      }
      store_floats(a.du + to, du);
    }
  }
  if (a.dbias) tile.sum(sums, partials);
}

}  // namespace

void gelu_of_rounded(const Exec& exec, const GeluOfRounded& args) {
  if (args.rows == 0 || args.D == 0) return;
  const auto go = [&](auto kernel, int width) {
    launch("gelu_of_rounded", kernel, dim3(blocks_for(args.D, kWarp * width), tile_grid(args.rows, args.D).y),
           kTileThreads, 0, exec.stream, args);
  };
  if (args.D % kWide == 0 && all_aligned(16, args.u, args.bias, args.y))
    go(gelu_of_rounded_kernel<kWide>, kWide);
  else
    go(gelu_of_rounded_kernel<1>, 1);
}

void gelu_of_rounded_backward(const Exec& exec, const GeluOfRoundedBackward& args) {
  if (args.D == 0) return;
  const ColumnSums<1> sums(args.rows, args.D);
  const auto go = [&](auto kernel, int width) {
    launch("gelu_of_rounded_backward", kernel, dim3(blocks_for(args.D, kWarp * width), sums.grid().y),
           kTileThreads, 0, exec.stream, args, sums.partials());
  };
  if (args.D % kWide == 0 && all_aligned(16, args.u, args.bias, args.dy, args.du))
    go(gelu_of_rounded_backward_kernel<kWide>, kWide);
  else
    go(gelu_of_rounded_backward_kernel<1>, 1);
  if (args.dbias) sums.add_up(exec, "gelu_of_rounded_dbias", args.dbias);
}

}  // namespace wedge::cu
