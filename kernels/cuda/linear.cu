// A linear layer's products, with the bias in their kernel where cuBLASLt has such (gemm.cuh) and in one of
// its own elsewhere; dbias; and bias with GELU: u += bias, y = u Φ(u), du = dy · (Φ(u) + u φ(u)), Φ and φ the
// Gaussian distribution function and density. cuBLASLt's GELU would not do: it is the tanh approximation.
//
// Layout: column tiles (column_sums.cuh), so that a thread reads its bias once. Backward needs u and takes
// the sum of du over the rows in the same pass. Bytes moved: each tensor once, and a 1/64 part of partial
// sums.
#include "kernels/linear.h"

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/math.cuh"

namespace wedge::cu {
namespace {

// y [rows, D] += bias
template <class T>
__global__ void bias_add_kernel(std::int64_t rows, std::int64_t D, const T* bias, T* y) {
  const ColumnTile<> tile(rows, D);
  const float b = tile.column < D ? to_float(bias[tile.column]) : 0;
  tile.for_rows<4>([&](std::int64_t row) { return to_float(y[row * D + tile.column]); },
                   [&](std::int64_t row, float x) { y[row * D + tile.column] = from_float<T>(x + b); });
}

template <class T>
__global__ void linear_dbias_kernel(std::int64_t rows, std::int64_t D, const T* dy, float* partials) {
  const ColumnTile<> tile(rows, D);
  float sum = 0;
  tile.for_rows<8>([&](std::int64_t row) { return to_float(dy[row * D + tile.column]); },
                   [&](std::int64_t, float x) { sum += x; });
  tile.sum(sum, partials);
}

template <class T>
__global__ void bias_gelu_forward_kernel(BiasGeluForward<T> a) {
  const ColumnTile<> tile(a.rows, a.D);
  const float bias = a.bias != nullptr && tile.column < a.D ? to_float(a.bias[tile.column]) : 0;
  const auto load = [&](std::int64_t row) { return to_float(a.u[row * a.D + tile.column]) + bias; };
  tile.for_rows<4>(load, [&](std::int64_t row, float u) {
    const std::int64_t at = row * a.D + tile.column;
    if (a.bias != nullptr) a.u[at] = from_float<T>(u);
    const float y = u * gaussian_cdf(u);
    a.y[at] = from_float<T>(y);
    if (a.y_rounded != nullptr) a.y_rounded[at] = from_float<BFloat16>(y);
  });
}

template <class T>
__global__ void bias_gelu_backward_kernel(BiasGeluBackward<T> a, float* partials) {
  const ColumnTile<> tile(a.rows, a.D);
  float dbias = 0;
  const auto load = [&](std::int64_t row) {
    const std::int64_t at = row * a.D + tile.column;
    return make_float2(to_float(a.u[at]), to_float(a.dy[at]));
  };
  tile.for_rows<4>(load, [&](std::int64_t row, float2 u_dy) {
    const std::int64_t at = row * a.D + tile.column;
    const float u = u_dy.x, du = u_dy.y * (gaussian_cdf(u) + gaussian_moment(u));
    if (a.du != nullptr) a.du[at] = from_float<T>(du);
    if (a.du_rounded != nullptr) a.du_rounded[at] = from_float<BFloat16>(du);
    dbias += du;
  });
  if (a.dbias) tile.sum(dbias, partials);
}

}  // namespace

template <class T>
void linear_forward(const Exec& exec, const LinearForward<T>& args) {
  const bool done = gemm_with_bias<T>(exec,
                                      {.M = args.rows,
                                       .N = args.N,
                                       .K = args.K,
                                       .A = {args.x, args.K, args.x_rounded},
                                       .B = transposed(args.weight, args.K, args.weight_rounded),
                                       .C = {args.y, args.N}},
                                      args.bias);
  if (done || args.bias == nullptr || args.rows == 0 || args.N == 0) return;
  launch("bias_add", bias_add_kernel<T>, tile_grid(args.rows, args.N), kTileThreads, 0, exec.stream,
         args.rows, args.N, args.bias, args.y);
}

template <class T>
void linear_dbias(const Exec& exec, const LinearDbias<T>& args) {
  if (args.N == 0) return;
  const ColumnSums<1> sums(args.rows, args.N);
  const auto sum = [&]<class Dy>(const Dy* dy) {
    launch("linear_dbias", linear_dbias_kernel<Dy>, sums.grid(), kTileThreads, 0, exec.stream, args.rows,
           args.N, dy, sums.partials());
  };
  args.dy != nullptr ? sum(args.dy) : sum(args.dy_rounded);
  sums.add_up(exec, "linear_dbias_totals", args.dbias);
}

template <class T>
void bias_gelu_forward(const Exec& exec, const BiasGeluForward<T>& args) {
  if (args.rows == 0 || args.D == 0) return;
  launch("bias_gelu_forward", bias_gelu_forward_kernel<T>, tile_grid(args.rows, args.D), kTileThreads, 0,
         exec.stream, args);
}

template <class T>
void bias_gelu_backward(const Exec& exec, const BiasGeluBackward<T>& args) {
  if (args.D == 0) return;
  const ColumnSums<1> sums(args.rows, args.D);
  launch("bias_gelu_backward", bias_gelu_backward_kernel<T>, sums.grid(), kTileThreads, 0, exec.stream, args,
         sums.partials());
  if (args.dbias) sums.add_up(exec, "bias_gelu_dbias", args.dbias);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(linear_forward, LinearForward)
WEDGE_INSTANTIATE_CUDA(linear_dbias, LinearDbias)
WEDGE_INSTANTIATE_CUDA(bias_gelu_forward, BiasGeluForward)
WEDGE_INSTANTIATE_CUDA(bias_gelu_backward, BiasGeluBackward)
}  // namespace wedge
