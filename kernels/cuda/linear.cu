// y += bias, and bias with GELU: u += bias, y = u Φ(u), du = dy · (Φ(u) + u φ(u)), Φ and φ the Gaussian
// distribution function and density.
//
// Layout: column tiles (column_sums.cuh), so that a thread reads its bias once. Backward needs u and takes
// the sum of du over the rows in the same pass. Bytes moved: each tensor once, and a 1/64 part of partial
// sums.
#include "kernels/linear.h"

#include "kernels/cuda/column_sums.cuh"

namespace wedge::cu {
namespace {

__device__ float gaussian_cdf(float x) {
  return 0.5f * (1 + erff(x * 0.70710678118654752f));
}
__device__ float gaussian_pdf(float x) {
  return 0.39894228040143268f * expf(-0.5f * x * x);
}

template <class T>
__global__ void bias_add_kernel(BiasAdd<T> a) {
  const ColumnTile tile(a.rows, a.D);
  const float bias = tile.column < a.D ? to_float(a.bias[tile.column]) : 0;
  for (std::int64_t row = tile.first; row < tile.end; row += kTileWarps)
    put(a.y + row * a.D + tile.column, bias, true);
}

template <class T>
__global__ void bias_gelu_forward_kernel(BiasGeluForward<T> a) {
  const ColumnTile tile(a.rows, a.D);
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
  const ColumnTile tile(a.rows, a.D);
  float dbias = 0;
  const auto load = [&](std::int64_t row) {
    const std::int64_t at = row * a.D + tile.column;
    return make_float2(to_float(a.u[at]), to_float(a.dy[at]));
  };
  tile.for_rows<4>(load, [&](std::int64_t row, float2 u_dy) {
    const std::int64_t at = row * a.D + tile.column;
    const float u = u_dy.x, du = u_dy.y * (gaussian_cdf(u) + u * gaussian_pdf(u));
    if (a.du != nullptr) a.du[at] = from_float<T>(du);
    if (a.du_rounded != nullptr) a.du_rounded[at] = from_float<BFloat16>(du);
    dbias += du;
  });
  if (a.dbias != nullptr) tile.sum(dbias, partials);
}

}  // namespace

template <class T>
void bias_add(const Exec& exec, const BiasAdd<T>& args) {
  if (args.rows == 0 || args.D == 0) return;
  launch("bias_add", bias_add_kernel<T>, tile_grid(args.rows, args.D), kTileThreads, 0, exec.stream, args);
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
  if (args.dbias != nullptr) sums.add_up(exec, "bias_gelu_dbias", ColumnSum{args.dbias, args.dbias_add});
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(bias_add, BiasAdd)
WEDGE_INSTANTIATE_CUDA(bias_gelu_forward, BiasGeluForward)
WEDGE_INSTANTIATE_CUDA(bias_gelu_backward, BiasGeluBackward)
}  // namespace wedge
