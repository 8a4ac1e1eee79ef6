// y = softmax(x) or log softmax(x) over rows, and dx (+)= y (dy - Σ dy y) or dy - exp(y) Σ dy.
//
// Layout: a warp a row up to kWarpWidth elements, eight rows a block; wider rows get a block each. Lanes read
// neighbouring elements. Backward needs y alone.
// Bytes: forward reads x three times (maximum, sum, result), backward reads y and dy twice; all but the first
// come from the caches for rows of up to some thousand elements.
#include "kernels/softmax.h"

#include "kernels/cuda/common.cuh"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kWarpWidth = 1024;

// The threads that share a row: a warp, or the whole block.
template <bool kBlock>
struct Team {
  static constexpr int kSize = kBlock ? kThreads : kWarp;
  static constexpr int kRowsPerBlock = kThreads / kSize;
  float* shared;

  __device__ int lane() const { return static_cast<int>(threadIdx.x) % kSize; }
  __device__ std::int64_t first_row() const {
    return std::int64_t{blockIdx.x} * kRowsPerBlock + static_cast<int>(threadIdx.x) / kSize;
  }
  __device__ std::int64_t next_rows() const { return std::int64_t{gridDim.x} * kRowsPerBlock; }
  __device__ float sum(float x) const {
    if constexpr (kBlock) {
      return block_sum(x, shared);
    } else {
      return warp_sum(x);
    }
  }
  __device__ float max(float x) const {
    if constexpr (kBlock) {
      return block_max(x, shared);
    } else {
      return warp_max(x);
    }
  }
};

template <class T, bool kBlock>
__global__ void __launch_bounds__(kThreads) softmax_forward_kernel(SoftmaxForward<T> args) {
  WEDGE_SHARED(float, shared, kWarp);
  const Team<kBlock> team{shared};
  for (std::int64_t row = team.first_row(); row < args.rows; row += team.next_rows()) {
    const T* x = args.x + row * args.n;
    T* y = args.y + row * args.n;
    float m = -INFINITY;
    for (std::int64_t i = team.lane(); i < args.n; i += team.kSize) m = fmaxf(m, to_float(x[i]));
    m = team.max(m);
    float sum = 0.0f;
    for (std::int64_t i = team.lane(); i < args.n; i += team.kSize) sum += expf(to_float(x[i]) - m);
    sum = team.sum(sum);
    const float log_sum = logf(sum), scale = 1.0f / sum;
    for (std::int64_t i = team.lane(); i < args.n; i += team.kSize) {
      const float shifted = to_float(x[i]) - m;
      y[i] = from_float<T>(args.log ? shifted - log_sum : expf(shifted) * scale);
    }
  }
}

template <class T, bool kBlock>
__global__ void __launch_bounds__(kThreads) softmax_backward_kernel(SoftmaxBackward<T> args) {
  WEDGE_SHARED(float, shared, kWarp);
  const Team<kBlock> team{shared};
  for (std::int64_t row = team.first_row(); row < args.rows; row += team.next_rows()) {
    const T* y = args.y + row * args.n;
    const T* dy = args.dy + row * args.n;
    T* dx = args.dx.data + row * args.n;
    float total = 0.0f;
    for (std::int64_t i = team.lane(); i < args.n; i += team.kSize)
      total += args.log ? to_float(dy[i]) : to_float(dy[i]) * to_float(y[i]);
    total = team.sum(total);
    for (std::int64_t i = team.lane(); i < args.n; i += team.kSize) {
      const float yi = to_float(y[i]), dyi = to_float(dy[i]);
      put(dx + i, args.log ? dyi - expf(yi) * total : yi * (dyi - total), args.dx.add);
    }
  }
}

template <class Kernel, class Args>
void launch_rows(const char* name, const Exec& exec, Kernel warp_a_row, Kernel block_a_row,
                 const Args& args) {
  if (args.rows == 0 || args.n == 0) return;
  const bool narrow = args.n <= kWarpWidth;
  launch(name, narrow ? warp_a_row : block_a_row, blocks_for(args.rows, narrow ? kThreads / kWarp : 1),
         kThreads, 0, exec.stream, args);
}

}  // namespace

template <class T>
void softmax_forward(const Exec& exec, const SoftmaxForward<T>& args) {
  launch_rows("softmax_forward", exec, &softmax_forward_kernel<T, false>, &softmax_forward_kernel<T, true>,
              args);
}

template <class T>
void softmax_backward(const Exec& exec, const SoftmaxBackward<T>& args) {
  launch_rows("softmax_backward", exec, &softmax_backward_kernel<T, false>, &softmax_backward_kernel<T, true>,
              args);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(softmax_forward, SoftmaxForward)
WEDGE_INSTANTIATE_CUDA(softmax_backward, SoftmaxBackward)
}  // namespace wedge
