// alpha = σ(u + bias), y = alpha h + (1 - alpha) g, and with du = dy (h - g) alpha (1 - alpha) its gradients
// dh = dy alpha, dg = dy (1 - alpha), dbias = Σ du.
//
// Layout: column tiles (column_sums.cuh), so that a thread reads its bias once. Backward needs h, g and alpha
// and takes the sum of du over the rows in the same pass. Bytes moved: each tensor once (dh and dg twice
// where they are added to), and a 1/64 part of partial sums.
#include "kernels/gate_blend.h"

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/gate_product.cuh"
#include "kernels/cuda/math.cuh"

namespace wedge::cu {
namespace {

template <class T>
__global__ void blend_forward_kernel(BlendForward<T> a) {
  const ColumnTile<> tile(a.rows, a.D);
  const float bias = a.bias != nullptr && tile.column < a.D ? to_float(a.bias[tile.column]) : 0;
  struct Element {
    float h, g, u;
  };
  const auto load = [&](std::int64_t row) {
    const std::int64_t at = row * a.D + tile.column;
    return Element{to_float(a.h[at]), to_float(a.g[at]), to_float(a.alpha[at])};
  };
  tile.for_rows<4>(load, [&](std::int64_t row, const Element& x) {
    const std::int64_t at = row * a.D + tile.column;
    const float alpha = sigmoid(x.u + bias);
    a.alpha[at] = from_float<T>(alpha);
    a.y[at] = from_float<T>(blend(alpha, x.h, x.g));
  });
}

template <class T>
__global__ void blend_backward_kernel(BlendBackward<T> a, float* partials) {
  const ColumnTile<> tile(a.rows, a.D);
  struct Element {
    float dy, h, g, alpha;
  };
  const auto load = [&](std::int64_t row) {
    const std::int64_t at = row * a.D + tile.column;
    return Element{to_float(a.dy[at]), to_float(a.h[at]), to_float(a.g[at]), to_float(a.alpha[at])};
  };
  float dbias = 0;
  tile.for_rows<4>(load, [&](std::int64_t row, const Element& x) {
    const std::int64_t at = row * a.D + tile.column;
    const float du = x.dy * (x.h - x.g) * x.alpha * (1 - x.alpha);
    if (a.du != nullptr) a.du[at] = from_float<T>(du);
    if (a.du_rounded != nullptr) a.du_rounded[at] = from_float<BFloat16>(du);
    dbias += du;
    if (a.dh) put(a.dh.data + at, x.dy * x.alpha, a.dh.add);
    if (a.dg) put(a.dg.data + at, x.dy * (1 - x.alpha), a.dg.add);
  });
  if (a.dbias) tile.sum(dbias, partials);
}

}  // namespace

template <class T>
void blend_forward(const Exec& exec, const BlendForward<T>& args) {
  if (args.rows == 0 || args.D == 0) return;
  launch("blend_forward", blend_forward_kernel<T>, tile_grid(args.rows, args.D), kTileThreads, 0, exec.stream,
         args);
}

template <class T>
void blend_backward(const Exec& exec, const BlendBackward<T>& args) {
  if (args.D == 0) return;
  const ColumnSums<1> sums(args.rows, args.D);
  launch("blend_backward", blend_backward_kernel<T>, sums.grid(), kTileThreads, 0, exec.stream, args,
         sums.partials());
  if (args.dbias) sums.add_up(exec, "blend_dbias", args.dbias);
}

template <class T>
void gate_blend_forward(const Exec& exec, const GateBlendForward<T>& args) {
  if (gate_product<T>(exec, args)) return;
  gate_in_parts<T>(
      args, [&](const Gemm<T>& product) { cu::gemm<T>(exec, product); },
      [&](const BlendForward<T>& blend) { cu::blend_forward<T>(exec, blend); });
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(gate_blend_forward, GateBlendForward)
WEDGE_INSTANTIATE_CUDA(blend_forward, BlendForward)
WEDGE_INSTANTIATE_CUDA(blend_backward, BlendBackward)
}  // namespace wedge
