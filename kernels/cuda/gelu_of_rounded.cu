// GELU between two products of bfloat16 factors: y = v Φ(v), du = dy · (Φ(v) + v φ(v)) with v = u + bias.
//
// Φ is made of the Gaussian density that backward needs anyway, by formula 26.2.17 of Abramowitz and Stegun,
// Handbook of Mathematical Functions (absolute error below 7.5e-8): erff and expf would take so many
// instructions that they, not the bytes, set the pace.
//
// Layout: column tiles as in column_sums.cuh, but where D and the pointers allow it a lane has eight
// neighbours (16 bytes) of four rows at a time. A thread sums du over its columns, the warps are added in
// order, and column_sums.cuh adds the pieces. Bytes moved: 2 for each value read or written, once.
#include <initializer_list>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/linear.h"

namespace wedge::cu {
namespace {

constexpr int kWide = 8;  // bfloat16 of 16 bytes

struct Gaussian {
  float cdf, pdf;
};

__device__ inline Gaussian gaussian(float x) {
  const float pdf = 0.39894228040143268f * exp2_approx(-0.72134752044448170f * x * x);
  const float t = reciprocal_approx(1 + 0.2316419f * fabsf(x));
  const float tail =
      pdf * t *
      (0.319381530f + t * (-0.356563782f + t * (1.781477937f + t * (-1.821255978f + t * 1.330274429f))));
  return {x < 0 ? tail : 1 - tail, pdf};
}

template <int kWidth>
using Rounded = Pack<BFloat16, kWidth>;
template <int kWidth>
using Floats = Pack<float, kWidth>;

template <int kWidth>
__device__ Floats<kWidth> bias_at(const float* bias, std::int64_t column) {
  return bias != nullptr ? *reinterpret_cast<const Floats<kWidth>*>(bias + column) : Floats<kWidth>{};
}

template <int kWidth>
__device__ void store(BFloat16* to, const Floats<kWidth>& x) {
  if constexpr (kWidth == 1) {
    *to = from_float<BFloat16>(x.v[0]);
  } else {
    Pack<std::uint32_t, kWidth / 2> pairs;
    for (int k = 0; k < kWidth / 2; ++k) pairs.v[k] = pack_bf16(x.v[2 * k], x.v[2 * k + 1]);
    *reinterpret_cast<Pack<std::uint32_t, kWidth / 2>*>(to) = pairs;
  }
}

// This thread's columns and rows: rows first, first + kTileWarps, ... below end.
template <int kWidth>
struct WideTile {
  static constexpr int kColumns = kWarp * kWidth;
  static constexpr int kTogether = kWidth == 1 ? 1 : 4;  // rows that are loaded before the first is used
  std::int64_t column, first, end;

  __device__ WideTile(std::int64_t rows, std::int64_t D) {
    const std::int64_t each = (rows + gridDim.y - 1) / gridDim.y, begin = each * blockIdx.y;
    column = static_cast<std::int64_t>(blockIdx.x) * kColumns + threadIdx.x % kWarp * kWidth;
    first = begin + threadIdx.x / kWarp;
    end = column < D ? (begin + each < rows ? begin + each : rows) : 0;
  }
};

template <int kWidth>
__global__ void __launch_bounds__(kTileThreads) gelu_of_rounded_kernel(GeluOfRounded a) {
  using Tile = WideTile<kWidth>;
  const Tile tile(a.rows, a.D);
  if (tile.first >= tile.end) return;
  const Floats<kWidth> bias = bias_at<kWidth>(a.bias, tile.column);
  for (std::int64_t row = tile.first; row < tile.end; row += Tile::kTogether * kTileWarps) {
    Rounded<kWidth> u[Tile::kTogether];
    const auto at = [&](int r) { return (row + r * kTileWarps) * a.D + tile.column; };
    WEDGE_UNROLL
    for (int r = 0; r < Tile::kTogether; ++r)
      if (row + r * kTileWarps < tile.end) u[r] = *reinterpret_cast<const Rounded<kWidth>*>(a.u + at(r));
    WEDGE_UNROLL
    for (int r = 0; r < Tile::kTogether; ++r) {
      if (row + r * kTileWarps >= tile.end) break;
      Floats<kWidth> y;
      WEDGE_UNROLL
      for (int k = 0; k < kWidth; ++k) {
        const float v = to_float(u[r].v[k]) + bias.v[k];
        y.v[k] = v * gaussian(v).cdf;
      }
      store(a.y + at(r), y);
    }
  }
}

template <int kWidth>
__global__ void __launch_bounds__(kTileThreads)
    gelu_of_rounded_backward_kernel(GeluOfRoundedBackward a, float* partials) {
  using Tile = WideTile<kWidth>;
  WEDGE_SHARED(float, terms, kTileWarps* Tile::kColumns);
  const Tile tile(a.rows, a.D);
  Floats<kWidth> sums{};
  const Floats<kWidth> bias = tile.column < a.D ? bias_at<kWidth>(a.bias, tile.column) : Floats<kWidth>{};
  for (std::int64_t row = tile.first; row < tile.end; row += Tile::kTogether * kTileWarps) {
    Rounded<kWidth> u[Tile::kTogether], dy[Tile::kTogether];
    const auto at = [&](int r) { return (row + r * kTileWarps) * a.D + tile.column; };
    WEDGE_UNROLL
    for (int r = 0; r < Tile::kTogether; ++r)
      if (row + r * kTileWarps < tile.end) {
        u[r] = *reinterpret_cast<const Rounded<kWidth>*>(a.u + at(r));
        dy[r] = *reinterpret_cast<const Rounded<kWidth>*>(a.dy + at(r));
      }
    WEDGE_UNROLL
    for (int r = 0; r < Tile::kTogether; ++r) {
      if (row + r * kTileWarps >= tile.end) break;
      Floats<kWidth> du;
      WEDGE_UNROLL
      for (int k = 0; k < kWidth; ++k) {
        const float v = to_float(u[r].v[k]) + bias.v[k];
        const Gaussian g = gaussian(v);
        du.v[k] = to_float(dy[r].v[k]) * (g.cdf + v * g.pdf);
        sums.v[k] += du.v[k];
      }
      store(a.du + at(r), du);
    }
  }
  if (a.dbias == nullptr) return;
  float* const own = terms + threadIdx.x / kWarp * Tile::kColumns + threadIdx.x % kWarp * kWidth;
  for (int k = 0; k < kWidth; ++k) own[k] = sums.v[k];
  __syncthreads();
  const std::int64_t d = static_cast<std::int64_t>(blockIdx.x) * Tile::kColumns + threadIdx.x;
  if (threadIdx.x >= Tile::kColumns || d >= a.D) return;
  float total = 0;
  for (int warp = 0; warp < kTileWarps; ++warp) total += terms[warp * Tile::kColumns + threadIdx.x];
  partials[blockIdx.y * a.D + d] = total;
}

bool is_wide(std::int64_t D, std::initializer_list<const void*> places) {
  if (D % kWide != 0) return false;
  for (const void* p : places)
    if (!is_aligned(p, 16)) return false;
  return true;
}

}  // namespace

void gelu_of_rounded(const Exec& exec, const GeluOfRounded& args) {
  if (args.rows == 0 || args.D == 0) return;
  const auto go = [&](auto kernel, int width) {
    launch("gelu_of_rounded", kernel, dim3(blocks_for(args.D, kWarp * width), tile_grid(args.rows, args.D).y),
           kTileThreads, 0, exec.stream, args);
  };
  is_wide(args.D, {args.u, args.bias, args.y}) ? go(gelu_of_rounded_kernel<kWide>, kWide)
                                               : go(gelu_of_rounded_kernel<1>, 1);
}

void gelu_of_rounded_backward(const Exec& exec, const GeluOfRoundedBackward& args) {
  if (args.D == 0) return;
  const ColumnSums<1> sums(args.rows, args.D);
  const auto go = [&](auto kernel, int width) {
    launch("gelu_of_rounded_backward", kernel, dim3(blocks_for(args.D, kWarp * width), sums.grid().y),
           kTileThreads, 0, exec.stream, args, sums.partials());
  };
  is_wide(args.D, {args.u, args.bias, args.dy, args.du}) ? go(gelu_of_rounded_backward_kernel<kWide>, kWide)
                                                         : go(gelu_of_rounded_backward_kernel<1>, 1);
  if (args.dbias != nullptr)
    sums.add_up(exec, "gelu_of_rounded_dbias", ColumnSum{args.dbias, args.dbias_add});
}

}  // namespace wedge::cu
