// y = f(x) with its gradient, y = a op b with broadcasting, and y (+)= alpha · factor · x.
//
// Layout: a thread takes kPerThread elements at the distance of a block's width, and loads them all before it
// computes, so that enough bytes are under way without any demand on alignment. The operands of a binary
// function are read through strides, after dimensions over which both step evenly have become one.
// Backward of a unary function needs x or y, whichever the slope is cheaper from, and reads only that one.
// Bytes: each operand once; an operand that is broadcast comes from the cache.
#include "kernels/elementwise.h"

#include "kernels/cuda/common.cuh"
#include "kernels/strides.h"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;
constexpr int kPerThread = 4;
constexpr std::int64_t kChunk = std::int64_t{kThreads} * kPerThread;  // elements that a block takes at a time

constexpr float kHalfSqrt2 = 0.70710678118654752f;
constexpr float kInverseSqrt2Pi = 0.39894228040143268f;

__device__ float gaussian_cdf(float x) {
  return 0.5f * (1.0f + erff(x * kHalfSqrt2));
}
__device__ float gaussian_pdf(float x) {
  return kInverseSqrt2Pi * expf(-0.5f * x * x);
}

__device__ float unary_value(UnaryOp op, float x) {
  switch (op) {
    case UnaryOp::neg:
      return -x;
    case UnaryOp::exp:
      return expf(x);
    case UnaryOp::log:
      return logf(x);
    case UnaryOp::sqrt:
      return sqrtf(x);
    case UnaryOp::square:
      return x * x;
    case UnaryOp::tanh:
      return tanhf(x);
    case UnaryOp::sigmoid:
      return 1.0f / (1.0f + expf(-x));
    case UnaryOp::relu:
      return x < 0.0f ? 0.0f : x;  // NaN stays NaN
    case UnaryOp::gelu:
      return x * gaussian_cdf(x);
  }
  return 0.0f;
}

__host__ __device__ bool slope_is_from_y(UnaryOp op) {
  return op == UnaryOp::exp || op == UnaryOp::sqrt || op == UnaryOp::tanh || op == UnaryOp::sigmoid;
}

// f'(x), from `at` = f(x) where slope_is_from_y(op) and from `at` = x elsewhere.
__device__ float unary_slope(UnaryOp op, float at) {
  switch (op) {
    case UnaryOp::neg:
      return -1.0f;
    case UnaryOp::exp:
      return at;
    case UnaryOp::log:
      return 1.0f / at;
    case UnaryOp::sqrt:
      return 0.5f / at;
    case UnaryOp::square:
      return 2.0f * at;
    case UnaryOp::tanh:
      return 1.0f - at * at;
    case UnaryOp::sigmoid:
      return at * (1.0f - at);
    case UnaryOp::relu:
      return at > 0.0f ? 1.0f : 0.0f;
    case UnaryOp::gelu:
      return gaussian_cdf(at) + at * gaussian_pdf(at);
  }
  return 0.0f;
}

__device__ float binary_value(BinaryOp op, float a, float b) {
  switch (op) {
    case BinaryOp::add:
      return a + b;
    case BinaryOp::sub:
      return a - b;
    case BinaryOp::mul:
      return a * b;
    case BinaryOp::div:
      return a / b;
  }
  return 0.0f;
}

// This thread's elements of the chunk that starts at `first`: element j is at first + j · kThreads.
__device__ std::int64_t first_chunk() {
  return blockIdx.x * kChunk + threadIdx.x;
}
__device__ std::int64_t next_chunk() {
  return gridDim.x * kChunk;
}
template <class T>
__device__ void load_chunk(const T* x, std::int64_t first, std::int64_t n, float (&out)[kPerThread]) {
  for (int j = 0; j < kPerThread; ++j) {
    const std::int64_t i = first + j * kThreads;
    out[j] = i < n ? to_float(x[i]) : 0.0f;
  }
}
// y (+)= value; the additions load before they store, too.
template <class T>
__device__ void put_chunk(T* y, std::int64_t first, std::int64_t n, bool add, float (&value)[kPerThread]) {
  if (add) {
    float old[kPerThread];
    load_chunk(y, first, n, old);
    for (int j = 0; j < kPerThread; ++j) value[j] = old[j] + value[j];
  }
  for (int j = 0; j < kPerThread; ++j) {
    const std::int64_t i = first + j * kThreads;
    if (i < n) y[i] = from_float<T>(value[j]);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) unary_forward_kernel(UnaryForward<T> args) {
  for (std::int64_t first = first_chunk(); first < args.n; first += next_chunk()) {
    float value[kPerThread];
    load_chunk(args.x, first, args.n, value);
    for (int j = 0; j < kPerThread; ++j) value[j] = unary_value(args.op, value[j]);
    put_chunk(args.y, first, args.n, false, value);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) unary_backward_kernel(UnaryBackward<T> args) {
  const T* source = slope_is_from_y(args.op) ? args.y : args.x;
  for (std::int64_t first = first_chunk(); first < args.n; first += next_chunk()) {
    float at[kPerThread], dy[kPerThread];
    load_chunk(source, first, args.n, at);
    load_chunk(args.dy, first, args.n, dy);
    for (int j = 0; j < kPerThread; ++j) dy[j] *= unary_slope(args.op, at[j]);
    put_chunk(args.dx, first, args.n, args.dx_add, dy);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) axpy_kernel(Axpy<T> args) {
  const float alpha =
      args.factor != nullptr ? to_float(args.alpha) * to_float(*args.factor) : to_float(args.alpha);
  for (std::int64_t first = first_chunk(); first < args.n; first += next_chunk()) {
    float value[kPerThread];
    load_chunk(args.x, first, args.n, value);
    for (int j = 0; j < kPerThread; ++j) value[j] *= alpha;
    put_chunk(args.y, first, args.n, args.y_add, value);
  }
}

// `Index` is 32 bits wide where the number of elements allows it: divisions of 64 bits cost several times
// more.
template <class T, class Index>
__global__ void __launch_bounds__(kThreads) binary_kernel(Binary<T> args, std::int64_t n) {
  for (std::int64_t first = first_chunk(); first < n; first += next_chunk()) {
    float a[kPerThread], b[kPerThread];
    for (int j = 0; j < kPerThread; ++j) {
      const std::int64_t i = first + j * kThreads;
      Index rest = static_cast<Index>(i < n ? i : 0);
      std::int64_t at_a = 0, at_b = 0;
      for (int d = args.rank - 1; d > 0; --d) {
        const Index size = static_cast<Index>(args.sizes[d]);
        const Index quotient = rest / size;
        const std::int64_t index = static_cast<std::int64_t>(rest - quotient * size);
        rest = quotient;
        at_a += index * args.a_strides[d];
        at_b += index * args.b_strides[d];
      }
      a[j] = to_float(args.a[at_a + static_cast<std::int64_t>(rest) * args.a_strides[0]]);
      b[j] = to_float(args.b[at_b + static_cast<std::int64_t>(rest) * args.b_strides[0]]);
    }
    for (int j = 0; j < kPerThread; ++j) a[j] = binary_value(args.op, a[j], b[j]);
    put_chunk(args.y, first, n, false, a);
  }
}

template <class Kernel, class... Args>
void launch_chunks(const char* name, const Exec& exec, std::int64_t n, Kernel kernel, const Args&... args) {
  if (n > 0) launch(name, kernel, blocks_for(n, kChunk), kThreads, 0, exec.stream, args...);
}

}  // namespace

template <class T>
void unary_forward(const Exec& exec, const UnaryForward<T>& args) {
  launch_chunks("unary_forward", exec, args.n, unary_forward_kernel<T>, args);
}

template <class T>
void unary_backward(const Exec& exec, const UnaryBackward<T>& args) {
  launch_chunks("unary_backward", exec, args.n, unary_backward_kernel<T>, args);
}

template <class T>
void binary(const Exec& exec, const Binary<T>& args) {
  std::int64_t n = 1;
  for (int d = 0; d < args.rank; ++d) n *= args.sizes[d];
  if (n < (std::int64_t{1} << 31)) {
    launch_chunks("binary", exec, n, binary_kernel<T, std::uint32_t>, collapse(args), n);
  } else {
    launch_chunks("binary", exec, n, binary_kernel<T, std::int64_t>, collapse(args), n);
  }
}

template <class T>
void axpy(const Exec& exec, const Axpy<T>& args) {
  launch_chunks("axpy", exec, args.n, axpy_kernel<T>, args);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(unary_forward, UnaryForward)
WEDGE_INSTANTIATE_CUDA(unary_backward, UnaryBackward)
WEDGE_INSTANTIATE_CUDA(binary, Binary)
WEDGE_INSTANTIATE_CUDA(axpy, Axpy)
}  // namespace wedge
