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

template <class T>
using Four = Pack<T, 4>;

// Elements i to i + 3 of [n], 0 beyond the end.
template <class T>
__device__ float4 load_four(const T* x, std::int64_t i, std::int64_t n, bool aligned) {
  if (aligned && i + 4 <= n) {
    const Four<T> four = *reinterpret_cast<const Four<T>*>(x + i);
    return make_float4(to_float(four.v[0]), to_float(four.v[1]), to_float(four.v[2]), to_float(four.v[3]));
  }
  return make_float4(i < n ? to_float(x[i]) : 0.0f, i + 1 < n ? to_float(x[i + 1]) : 0.0f,
                     i + 2 < n ? to_float(x[i + 2]) : 0.0f, i + 3 < n ? to_float(x[i + 3]) : 0.0f);
}

template <class T>
__device__ void store_four(T* y, std::int64_t i, std::int64_t n, bool aligned, float4 value) {
  if (aligned && i + 4 <= n) {
    Four<T> four;
    four.v[0] = from_float<T>(value.x);
    four.v[1] = from_float<T>(value.y);
    four.v[2] = from_float<T>(value.z);
    four.v[3] = from_float<T>(value.w);
    *reinterpret_cast<Four<T>*>(y + i) = four;
    return;
  }
  if (i < n) y[i] = from_float<T>(value.x);
  if (i + 1 < n) y[i + 1] = from_float<T>(value.y);
  if (i + 2 < n) y[i + 2] = from_float<T>(value.z);
  if (i + 3 < n) y[i + 3] = from_float<T>(value.w);
}

// out = base + mask · in for both directions; base may be null, and out may be in or base.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(std::int64_t n, const T* in, const T* base, T* out, MaskSource source, bool aligned) {
  const Masks mask(source);
  const std::int64_t step = threads_in_grid() * 4;
  for (std::int64_t i = thread_in_grid() * 4; i < n; i += step) {
    const float4 x = load_four(in, i, n, aligned);
    float4 b = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (base != nullptr) b = load_four(base, i, n, aligned);
    const float4 m = mask.four(i);
    float4 y = make_float4(m.x * x.x, m.y * x.y, m.z * x.z, m.w * x.w);
    if (base != nullptr) y = make_float4(b.x + y.x, b.y + y.y, b.z + y.z, b.w + y.w);
    store_four(out, i, n, aligned, y);
  }
}

template <class T>
void launch_dropout(const char* name, const Exec& exec, std::int64_t n, const T* in, const T* base, T* out,
                    const DropoutMask& mask) {
  if (n == 0) return;
  const bool aligned = all_aligned(sizeof(Four<T>), in, base, out);
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
  const T* base = args.dx_add ? args.dx : nullptr;
  launch_dropout("dropout_backward", exec, args.n, args.dy, base, args.dx, args.mask);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(dropout_forward, DropoutForward)
WEDGE_INSTANTIATE_CUDA(dropout_backward, DropoutBackward)
}  // namespace wedge
