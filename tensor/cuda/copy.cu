// Strided copies and fills on the GPU: a thread an element, in row-major order of the destination's index, so
// that dense destinations are written in one piece. Copies of dense tensors, of which a training step has
// many (float32 to bfloat16), go eight elements a thread, 16 bytes at a time.
#include "tensor/cuda/gpu.h"
#include "tensor/cuda/launch.cuh"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;

struct Offsets {
  std::int64_t to, from;
};

__device__ Offsets offsets_of(const StridedCopy& args, std::int64_t i) {
  Offsets at{0, 0};
  for (int d = args.rank - 1; d >= 0; --d) {
    const std::int64_t index = i % args.sizes[d];
    i /= args.sizes[d];
    at.to += index * args.to_strides[d];
    at.from += index * args.from_strides[d];
  }
  return at;
}

template <class To, class From>
__global__ void copy_strided_kernel(StridedCopy args, std::int64_t n) {
  for (std::int64_t i = thread_in_grid(); i < n; i += threads_in_grid()) {
    const Offsets at = offsets_of(args, i);
    static_cast<To*>(args.to)[at.to] = convert<To>(static_cast<const From*>(args.from)[at.from]);
  }
}

template <class T>
using Eight = Pack<T, 8>;

template <class To, class From>
__global__ void copy_dense_kernel(To* to, const From* from, std::int64_t n) {
  for (std::int64_t i = thread_in_grid(); i < n / 8; i += threads_in_grid()) {
    const auto in = reinterpret_cast<const Eight<From>*>(from)[i];
    Eight<To> out;
    for (int k = 0; k < 8; ++k) out.v[k] = convert<To>(in.v[k]);
    reinterpret_cast<Eight<To>*>(to)[i] = out;
  }
  for (std::int64_t i = n / 8 * 8 + thread_in_grid(); i < n; i += threads_in_grid())
    to[i] = convert<To>(from[i]);
}

template <class To>
__global__ void fill_strided_kernel(StridedCopy args, std::int64_t n, double value) {
  for (std::int64_t i = thread_in_grid(); i < n; i += threads_in_grid())
    static_cast<To*>(args.to)[offsets_of(args, i).to] = convert<To>(value);
}

std::int64_t count(const StridedCopy& args) {
  std::int64_t n = 1;
  for (int d = 0; d < args.rank; ++d) n *= args.sizes[d];
  return n;
}

// Whether both tensors lie there in row-major order, without gaps.
bool is_dense(const StridedCopy& args) {
  std::int64_t stride = 1;
  for (int d = args.rank - 1; d >= 0; --d) {
    if (args.sizes[d] != 1 && (args.to_strides[d] != stride || args.from_strides[d] != stride)) return false;
    stride *= args.sizes[d];
  }
  return true;
}

}  // namespace

void copy_strided(const StridedCopy& args, DType to_dtype, DType from_dtype) {
  const std::int64_t n = count(args);
  if (n == 0) return;
  visit_dtype(to_dtype, [&]<class To>(To) {
    visit_dtype(from_dtype, [&]<class From>(From) {
      if (is_dense(args) && all_aligned(alignof(Eight<To>), args.to) &&
          all_aligned(alignof(Eight<From>), args.from))
        return launch("copy_dense", copy_dense_kernel<To, From>, blocks_for(ceil_div(n, 8), kThreads),
                      kThreads, 0, stream(), static_cast<To*>(args.to), static_cast<const From*>(args.from),
                      n);
      launch("copy_strided", copy_strided_kernel<To, From>, blocks_for(n, kThreads), kThreads, 0, stream(),
             args, n);
    });
  });
}

void fill_strided(const StridedCopy& args, DType dtype, double value) {
  const std::int64_t n = count(args);
  if (n == 0) return;
  visit_dtype(dtype, [&]<class To>(To) {
    launch("fill_strided", fill_strided_kernel<To>, blocks_for(n, kThreads), kThreads, 0, stream(), args, n,
           value);
  });
}

}  // namespace wedge::cu
