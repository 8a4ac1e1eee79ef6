// y = residual + mask · x and dx (+)= mask · dy, the mask recomputed from its counters.
//
// Layout: a thread takes four neighbouring elements, which share one Philox block; memory is read and written
// four elements at a time where the pointers allow it. Backward needs dy and the counters, nothing stored.
// Bytes an element: forward reads x and the residual and writes y; backward reads dy (and dx) and writes dx.
#include "kernels/dropout.h"

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/dropout_mask.cuh"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kBlocks = 4096;

// Elements i to i + 3 of [n], 0 beyond the end.
template <class T>
__device__ Floats<4> load_four(const T* x, std::int64_t i, std::int64_t n, bool aligned) {
  if (aligned && i + 4 <= n) return load_floats<4>(x + i);
  Floats<4> four = {};
  for (int k = 0; k < 4; ++k)
    if (i + k < n) four.v[k] = to_float(x[i + k]);
  return four;
}

template <class T>
__device__ void store_four(T* y, std::int64_t i, std::int64_t n, bool aligned, const Floats<4>& four) {
  if (aligned && i + 4 <= n) return store_floats(y + i, four);
  for (int k = 0; k < 4; ++k)
    if (i + k < n) y[i + k] = from_float<T>(four.v[k]);
}

// out = base + mask · in for both directions; base may be null, and out may be in or base.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(std::int64_t n, const T* in, const T* base, T* out, MaskSource source, bool aligned) {
  const Masks mask(source);
  const std::int64_t step = threads_in_grid() * 4;
  for (std::int64_t i = thread_in_grid() * 4; i < n; i += step) {
    Floats<4> y = load_four(in, i, n, aligned), b = {};
    if (base != nullptr) b = load_four(base, i, n, aligned);
    mask.apply(i, y.v);
    if (base != nullptr)
      for (int k = 0; k < 4; ++k) y.v[k] += b.v[k];
    store_four(out, i, n, aligned, y);
  }
}

template <class T>
void launch_dropout(const char* name, const Exec& exec, std::int64_t n, const T* in, const T* base, T* out,
                    const DropoutMask& mask) {
  if (n == 0) return;
  const bool aligned = all_aligned(4 * sizeof(T), in, base, out);
  launch(name, dropout_kernel<T>, blocks_for(n, 4 * kThreads, kBlocks), kThreads, 0, exec.stream, n, in, base,
         out, MaskSource(mask), aligned);
}

}  // namespace

template <class T>
void dropout_forward(const Exec& exec, const DropoutForward<T>& args) {
  launch_dropout("dropout_forward", exec, args.n, args.x, args.residual, args.y, args.mask);
}

template <class T>
void dropout_backward(const Exec& exec, const DropoutBackward<T>& args) {
  const T* base = args.dx.add ? args.dx.data : nullptr;
  launch_dropout("dropout_backward", exec, args.n, args.dy, base, args.dx.data, args.mask);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(dropout_forward, DropoutForward)
WEDGE_INSTANTIATE_CUDA(dropout_backward, DropoutBackward)
}  // namespace wedge
