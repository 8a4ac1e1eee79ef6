// y = f(x) with its gradient, y = a op b with broadcasting, and y (+)= alpha · factor · x.
//
// Layout: a thread takes two groups of four neighbours (16 bytes of float32), or four elements at the
// distance of a block's width where pointers are not aligned for that, and loads them all before it computes,
// so that enough bytes are under way. The operands of a binary function are read through strides, after
// dimensions over which both step evenly have become one, unless they are dense. Backward of a unary function
// needs x or y, whichever the slope is cheaper from, and reads only that one. Bytes: each operand once; an
// operand that is broadcast comes from the cache.
#include "kernels/elementwise.h"

#include "kernels/cuda/math.cuh"
#include "kernels/strides.h"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;

// Calls use(f) with the function of one float: the operation is the same for all of a thread's elements, so
// it is chosen once, and then their latencies overlap.
template <class Use>
__device__ void with_value(UnaryOp op, const Use& use) {
  switch (op) {
    case UnaryOp::neg:
      return use([](float x) { return -x; });
    case UnaryOp::exp:
      return use([](float x) { return expf(x); });
    case UnaryOp::log:
      return use([](float x) { return logf(x); });
    case UnaryOp::sqrt:
      return use([](float x) { return sqrtf(x); });
    case UnaryOp::square:
      return use([](float x) { return x * x; });
    case UnaryOp::tanh:
      return use([](float x) { return tanhf(x); });
    case UnaryOp::sigmoid:
      return use([](float x) { return sigmoid(x); });
    case UnaryOp::relu:
      return use([](float x) { return x < 0.0f ? 0.0f : x; });  // NaN stays NaN
    case UnaryOp::gelu:
      return use([](float x) { return x * gaussian_cdf(x); });
  }
}

__host__ __device__ bool slope_is_from_y(UnaryOp op) {
  return op == UnaryOp::exp || op == UnaryOp::sqrt || op == UnaryOp::tanh || op == UnaryOp::sigmoid;
}

// Likewise with f', as a function of y = f(x) where slope_is_from_y(op) and of x elsewhere.
template <class Use>
__device__ void with_slope(UnaryOp op, const Use& use) {
  switch (op) {
    case UnaryOp::neg:
      return use([](float) { return -1.0f; });
    case UnaryOp::exp:
      return use([](float y) { return y; });
    case UnaryOp::log:
      return use([](float x) { return 1.0f / x; });
    case UnaryOp::sqrt:
      return use([](float y) { return 0.5f / y; });
    case UnaryOp::square:
      return use([](float x) { return 2.0f * x; });
    case UnaryOp::tanh:
      return use([](float y) { return 1.0f - y * y; });
    case UnaryOp::sigmoid:
      return use([](float y) { return y * (1.0f - y); });
    case UnaryOp::relu:
      return use([](float x) { return x <= 0.0f ? 0.0f : 1.0f; });  // of NaN 1
    case UnaryOp::gelu:
      return use([](float x) { return gaussian_cdf(x) + gaussian_moment(x); });
  }
}

template <class Use>
__device__ void with_value(BinaryOp op, const Use& use) {
  switch (op) {
    case BinaryOp::add:
      return use([](float a, float b) { return a + b; });
    case BinaryOp::sub:
      return use([](float a, float b) { return a - b; });
    case BinaryOp::mul:
      return use([](float a, float b) { return a * b; });
    case BinaryOp::div:
      return use([](float a, float b) { return a / b; });
  }
}

// This thread's elements of one chunk of many: kGroups of kWidth neighbours, group g from `first` +
// g · kThreads · kWidth on; of n in all.
template <int kWidth_>
struct Chunk {
  static constexpr int kWidth = kWidth_, kGroups = kWidth == 4 ? 2 : 4, kCount = kWidth * kGroups;
  static constexpr std::int64_t kElements = std::int64_t{kThreads} * kCount;  // that a block takes at a time
  using Values = float[kCount];

  std::int64_t first, n;

  // Calls use(chunk) with each of this thread's.
  template <class Use>
  __device__ static void for_each(std::int64_t n, const Use& use) {
    const std::int64_t own = static_cast<std::int64_t>(threadIdx.x) * kWidth;
    for (std::int64_t first = blockIdx.x * kElements + own; first < n; first += gridDim.x * kElements)
      use(Chunk{first, n});
  }

  __device__ std::int64_t at(int group) const {
    return first + static_cast<std::int64_t>(group) * kThreads * kWidth;
  }

  __device__ bool is_whole() const { return at(kGroups - 1) + kWidth <= n; }

  // 0 beyond the end.
  template <class T>
  __device__ void load(const T* x, Values& out) const {
    if (is_whole()) {
      WEDGE_UNROLL
      for (int g = 0; g < kGroups; ++g) {
        const Floats<kWidth> group = load_floats<kWidth>(x + at(g));
        for (int e = 0; e < kWidth; ++e) out[g * kWidth + e] = group.v[e];
      }
      return;
    }
    for (int g = 0; g < kGroups; ++g)
      for (int e = 0; e < kWidth; ++e) out[g * kWidth + e] = at(g) + e < n ? to_float(x[at(g) + e]) : 0.0f;
  }
  // y (+)= value; the additions load before they store, too.
  template <class T>
  __device__ void put(T* y, bool add, Values& value) const {
    if (add) {
      Values old;
      load(y, old);
      for (int k = 0; k < kCount; ++k) value[k] = old[k] + value[k];
    }
    if (is_whole()) {
      WEDGE_UNROLL
      for (int g = 0; g < kGroups; ++g) {
        Floats<kWidth> group;
        for (int e = 0; e < kWidth; ++e) group.v[e] = value[g * kWidth + e];
        store_floats(y + at(g), group);
      }
      return;
    }
    for (int g = 0; g < kGroups; ++g)
      for (int e = 0; e < kWidth; ++e)
        if (at(g) + e < n) y[at(g) + e] = from_float<T>(value[g * kWidth + e]);
  }
};

template <class Chunk, class T>
__global__ void __launch_bounds__(kThreads) unary_forward_kernel(UnaryForward<T> args) {
  Chunk::for_each(args.n, [&](const Chunk& chunk) {
    typename Chunk::Values value;
    chunk.load(args.x, value);
    with_value(args.op, [&](auto f) {
      WEDGE_UNROLL
      for (float& x : value) x = f(x);
    });
    chunk.put(args.y, false, value);
  });
}

template <class Chunk, class T>
__global__ void __launch_bounds__(kThreads) unary_backward_kernel(UnaryBackward<T> args) {
  const T* const source = slope_is_from_y(args.op) ? args.y : args.x;
  Chunk::for_each(args.n, [&](const Chunk& chunk) {
    typename Chunk::Values at, dy;
    chunk.load(source, at);
    chunk.load(args.dy, dy);
    with_slope(args.op, [&](auto slope) {
      WEDGE_UNROLL
      for (int k = 0; k < Chunk::kCount; ++k) dy[k] *= slope(at[k]);
    });
    chunk.put(args.dx.data, args.dx.add, dy);
  });
}

template <class Chunk, class T>
__global__ void __launch_bounds__(kThreads) axpy_kernel(Axpy<T> args) {
  const float alpha =
      args.factor != nullptr ? to_float(args.alpha) * to_float(*args.factor) : to_float(args.alpha);
  Chunk::for_each(args.n, [&](const Chunk& chunk) {
    typename Chunk::Values value;
    chunk.load(args.x, value);
    for (float& x : value) x *= alpha;
    chunk.put(args.y.data, args.y.add, value);
  });
}

template <class Chunk, class T>
__global__ void __launch_bounds__(kThreads) binary_dense_kernel(Binary<T> args, std::int64_t n) {
  Chunk::for_each(n, [&](const Chunk& chunk) {
    typename Chunk::Values a, b;
    chunk.load(args.a, a);
    chunk.load(args.b, b);
    with_value(args.op, [&](auto f) {
      WEDGE_UNROLL
      for (int k = 0; k < Chunk::kCount; ++k) a[k] = f(a[k], b[k]);
    });
    chunk.put(args.y, false, a);
  });
}

// `Index` is 32 bits wide where the number of elements allows it: divisions of 64 bits cost several times
// more.
template <class T, class Index>
__global__ void __launch_bounds__(kThreads) binary_kernel(Binary<T> args, std::int64_t n) {
  using Elements = Chunk<1>;
  Elements::for_each(n, [&](const Elements& chunk) {
    Elements::Values a, b;
    for (int k = 0; k < Elements::kCount; ++k) {
      const std::int64_t i = chunk.at(k);
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
      a[k] = to_float(args.a[at_a + static_cast<std::int64_t>(rest) * args.a_strides[0]]);
      b[k] = to_float(args.b[at_b + static_cast<std::int64_t>(rest) * args.b_strides[0]]);
    }
    with_value(args.op, [&](auto f) {
      WEDGE_UNROLL
      for (int k = 0; k < Elements::kCount; ++k) a[k] = f(a[k], b[k]);
    });
    chunk.put(args.y, false, a);
  });
}

// Calls go.operator()<Chunk>() with the wider or the narrower.
template <class Go>
void choose_chunk(bool wide, const Go& go) {
  if (wide)
    go.template operator()<Chunk<4>>();
  else
    go.template operator()<Chunk<1>>();
}

template <class Chunk, class Kernel, class... Args>
void launch_chunks(const char* name, const Exec& exec, std::int64_t n, Kernel kernel, const Args&... args) {
  if (n > 0) launch(name, kernel, blocks_for(n, Chunk::kElements), kThreads, 0, exec.stream, args...);
}

}  // namespace

template <class T>
void unary_forward(const Exec& exec, const UnaryForward<T>& args) {
  choose_chunk(all_aligned(4 * sizeof(T), args.x, args.y), [&]<class Chunk>() {
    launch_chunks<Chunk>("unary_forward", exec, args.n, unary_forward_kernel<Chunk, T>, args);
  });
}

template <class T>
void unary_backward(const Exec& exec, const UnaryBackward<T>& args) {
  choose_chunk(all_aligned(4 * sizeof(T), args.x, args.y, args.dy, args.dx.data), [&]<class Chunk>() {
    launch_chunks<Chunk>("unary_backward", exec, args.n, unary_backward_kernel<Chunk, T>, args);
  });
}

template <class T>
void binary(const Exec& exec, const Binary<T>& args) {
  std::int64_t n = 1;
  for (int d = 0; d < args.rank; ++d) n *= args.sizes[d];
  const Binary<T> in_few = collapse(args);
  if (in_few.rank == 1 && in_few.a_strides[0] == 1 && in_few.b_strides[0] == 1)
    return choose_chunk(all_aligned(4 * sizeof(T), args.a, args.b, args.y), [&]<class Chunk>() {
      launch_chunks<Chunk>("binary_dense", exec, n, binary_dense_kernel<Chunk, T>, in_few, n);
    });
  if (n < (std::int64_t{1} << 31)) {
    launch_chunks<Chunk<1>>("binary", exec, n, binary_kernel<T, std::uint32_t>, in_few, n);
  } else {
    launch_chunks<Chunk<1>>("binary", exec, n, binary_kernel<T, std::int64_t>, in_few, n);
  }
}

template <class T>
void axpy(const Exec& exec, const Axpy<T>& args) {
  choose_chunk(all_aligned(4 * sizeof(T), args.x, args.y.data), [&]<class Chunk>() {
    launch_chunks<Chunk>("axpy", exec, args.n, axpy_kernel<Chunk, T>, args);
  });
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(unary_forward, UnaryForward)
WEDGE_INSTANTIATE_CUDA(unary_backward, UnaryBackward)
WEDGE_INSTANTIATE_CUDA(binary, Binary)
WEDGE_INSTANTIATE_CUDA(axpy, Axpy)
}  // namespace wedge
