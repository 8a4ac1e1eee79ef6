// One AdamW step over all parameters of a model, and the squared norm of all gradients.
//
// Layout: tensors are cut into pieces of kPiece elements; a launch takes up to kTensors of them, whose
// pointers travel in the kernel's parameters, and a block finds the tensor of its piece by a binary search
// over the numbers of pieces before each; a thread takes four neighbours (16 bytes of float32) where sizes
// and pointers allow it, 16 elements of the norm and 8 of a step before it uses the first. The norm: each
// piece is summed in double by a block into scratch memory, and one last block adds those in order. Norm,
// clip factor and bias corrections are computed from what lies in device memory, so that nothing is read back
// and a captured step can be replayed. Bytes a parameter: the step reads 4 floats and writes 3, and 2 bytes
// more where a bfloat16 copy is kept; the norm reads 1 float.
#include "kernels/adamw.h"

#include <algorithm>
#include <limits>

#include "kernels/cuda/common.cuh"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kPiece = 4096;
constexpr std::int64_t kStepBlocks = 2048;  // more would only compute the scalars more often
constexpr double kLargest = std::numeric_limits<double>::max();

// With 256 tensors 13 KB, of the 32 KB of parameters that CUDA 12.1 and later take.
constexpr int kTensors = 256;

template <class T>
struct Table {
  int count = 0;
  int pieces = 0;
  int first_piece[kTensors] = {};
  AdamWTensor<T> tensors[kTensors] = {};
};

template <class T>
struct Piece {
  const AdamWTensor<T>& tensor;
  std::int64_t begin, end;
};

template <class T>
__device__ Piece<T> piece_of(const Table<T>& table, int piece) {
  int low = 0, high = table.count - 1;  // the last tensor whose first piece is not beyond `piece`
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (table.first_piece[middle] <= piece) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const AdamWTensor<T>& tensor = table.tensors[low];
  const std::int64_t begin = (piece - table.first_piece[low]) * kPiece;
  return {tensor, begin, begin + kPiece < tensor.n ? begin + kPiece : tensor.n};
}

template <class T>
__device__ bool by_fours(const AdamWTensor<T>& t) {
  return t.n % 4 == 0 && all_aligned(4 * sizeof(T), t.p, t.g, t.m, t.v) &&
         all_aligned(4 * sizeof(BFloat16), t.rounded);
}

// Calls body(first, step) until it has had all of this thread's elements of the piece: the kWidth from
// first + j · step on, j < kUnroll, that are below its end.
template <int kWidth, int kUnroll, class T, class Body>
__device__ void for_elements(const Piece<T>& piece, const Body& body) {
  constexpr std::int64_t kStep = kWidth * kThreads;
  for (std::int64_t first = piece.begin + kWidth * static_cast<std::int64_t>(threadIdx.x); first < piece.end;
       first += kUnroll * kStep)
    body(first, kStep);
}

// Cuts `tensors` into tables and calls body(table, number of pieces before it) with each; returns the number
// of all pieces. Tensors for which `wanted` is false have none.
template <class T, class Wanted, class Body>
std::int64_t for_tables(std::span<const AdamWTensor<T>> tensors, Wanted&& wanted, Body&& body) {
  std::int64_t before = 0;
  Table<T> table{};
  const auto flush = [&] {
    if (table.pieces > 0) body(static_cast<const Table<T>&>(table), before);
    before += table.pieces;
    table.count = table.pieces = 0;
  };
  for (const AdamWTensor<T>& tensor : tensors) {
    if (tensor.n == 0 || !wanted(tensor)) continue;
    const std::int64_t pieces = ceil_div(tensor.n, kPiece);
    if (pieces > std::numeric_limits<int>::max() / 2) fail("adamw", "a tensor has too many elements");
    if (table.count == kTensors || table.pieces > std::numeric_limits<int>::max() / 2) flush();
    table.first_piece[table.count] = table.pieces;
    table.tensors[table.count++] = tensor;
    table.pieces += static_cast<int>(pieces);
  }
  flush();
  return before;
}

struct StepConstants {
  double beta1, beta2, eps, weight_decay, grad_clip;
  const AdamWScalars* scalars;
  const double* squared_norm;
};

// What every element's update needs, in float32.
struct Rates {
  bool finite;
  float decay, step_size, sqrt_correction, clip, eps, rate1, beta2, rate2;
};

__device__ Rates rates_of(const StepConstants& with) {
  const AdamWScalars k = *with.scalars;
  const double norm = sqrt(*with.squared_norm);
  const double clip =
      with.grad_clip > 0 && with.grad_clip < norm + 1e-6 ? with.grad_clip / (norm + 1e-6) : 1.0;
  return {norm <= kLargest,
          static_cast<float>(1.0 - k.learning_rate * with.weight_decay),
          static_cast<float>(k.learning_rate / k.bias_correction1),
          static_cast<float>(k.sqrt_bias_correction2),
          static_cast<float>(clip),
          static_cast<float>(with.eps),
          static_cast<float>(1.0 - with.beta1),
          static_cast<float>(with.beta2),
          static_cast<float>(1.0 - with.beta2)};
}

template <int kWidth, class T>
__device__ void update(const Piece<T>& piece, const Rates& k) {
  constexpr int kUnroll = kWidth == 4 ? 2 : 4;
  const AdamWTensor<T> tensor = piece.tensor;
  for_elements<kWidth, kUnroll>(piece, [&](std::int64_t first, std::int64_t step) {
    Floats<kWidth> p[kUnroll] = {}, g[kUnroll] = {}, m[kUnroll] = {}, v[kUnroll] = {};
    WEDGE_UNROLL
    for (int j = 0; j < kUnroll; ++j) {
      const std::int64_t i = first + j * step;
      if (i >= piece.end) continue;
      p[j] = load_floats<kWidth>(tensor.p + i);
      if (tensor.g != nullptr) g[j] = load_floats<kWidth>(tensor.g + i);
      m[j] = load_floats<kWidth>(tensor.m + i);
      v[j] = load_floats<kWidth>(tensor.v + i);
    }
    WEDGE_UNROLL
    for (int j = 0; j < kUnroll; ++j) {
      const std::int64_t i = first + j * step;
      if (i >= piece.end) break;
      for (int e = 0; e < kWidth; ++e) {
        const float grad = g[j].v[e] * k.clip;
        float &x = p[j].v[e], &mean = m[j].v[e], &square = v[j].v[e];
        mean += k.rate1 * (grad - mean);
        square = k.beta2 * square + k.rate2 * grad * grad;
        x = x * k.decay - k.step_size * mean / (sqrtf(square) / k.sqrt_correction + k.eps);
      }
      store_floats(tensor.p + i, p[j]);
      if (tensor.rounded != nullptr) store_floats(tensor.rounded + i, p[j]);
      store_floats(tensor.m + i, m[j]);
      store_floats(tensor.v + i, v[j]);
    }
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads) adamw_step_kernel(Table<T> table, StepConstants with) {
  // Divisions and a root in double: one thread does them for the block.
  WEDGE_SHARED(Rates, shared, 1);
  if (threadIdx.x == 0) shared[0] = rates_of(with);
  __syncthreads();
  const Rates k = shared[0];
  if (!k.finite) return;
  for (int at = static_cast<int>(blockIdx.x); at < table.pieces; at += static_cast<int>(gridDim.x)) {
    const Piece<T> piece = piece_of(table, at);
    by_fours(piece.tensor) ? update<4>(piece, k) : update<1>(piece, k);
  }
}

template <int kWidth, class T>
__device__ double sum_of_squares(const Piece<T>& piece) {
  constexpr int kUnroll = 4;
  double sum = 0;
  for_elements<kWidth, kUnroll>(piece, [&](std::int64_t first, std::int64_t step) {
    Floats<kWidth> g[kUnroll] = {};
    WEDGE_UNROLL
    for (int j = 0; j < kUnroll; ++j)
      if (first + j * step < piece.end) g[j] = load_floats<kWidth>(piece.tensor.g + first + j * step);
    WEDGE_UNROLL
    for (int j = 0; j < kUnroll; ++j)
      for (int e = 0; e < kWidth; ++e) sum += static_cast<double>(g[j].v[e]) * static_cast<double>(g[j].v[e]);
  });
  return sum;
}

// sums[piece] = Σ g² over the piece.
template <class T>
__global__ void __launch_bounds__(kThreads) squared_norm_kernel(Table<T> table, double* sums) {
  WEDGE_SHARED(double, shared, kWarp);
  for (int at = static_cast<int>(blockIdx.x); at < table.pieces; at += static_cast<int>(gridDim.x)) {
    const Piece<T> piece = piece_of(table, at);
    const double own = by_fours(piece.tensor) ? sum_of_squares<4>(piece) : sum_of_squares<1>(piece);
    const double sum = block_sum(own, static_cast<double*>(shared));
    if (threadIdx.x == 0) sums[at] = sum;
  }
}

// out = Σ sums, by one block: each thread adds every kThreads-th, and the block adds theirs. The last thread
// takes the step's two powers in double meanwhile.
__global__ void __launch_bounds__(kThreads)
    add_pieces_kernel(const double* sums, std::int64_t pieces, double* out, AdamWPrepare prepare,
                      bool prepares) {
  WEDGE_SHARED(double, shared, kWarp);
  WEDGE_SHARED(double, corrections, 2);
  if (prepares && threadIdx.x == kThreads - 1) {
    const auto t = static_cast<double>(*prepare.steps + 1);
    corrections[0] = 1 - pow(prepare.beta1, t);
    corrections[1] = sqrt(1 - pow(prepare.beta2, t));
  }
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < pieces; i += kThreads) sum += sums[i];
  sum = block_sum(sum, static_cast<double*>(shared));
  if (threadIdx.x != 0) return;
  *out = sum;
  if (!prepares) return;
  const double norm = sqrt(sum);
  *prepare.scalars = {*prepare.learning_rate, corrections[0], corrections[1]};
  *prepare.norm = norm;
  if (norm <= kLargest) *prepare.steps += 1;
}

}  // namespace

template <class T>
void adamw_step(const Exec& exec, const AdamWStep<T>& args) {
  const StepConstants with{args.beta1,     args.beta2,   args.eps,         args.weight_decay,
                           args.grad_clip, args.scalars, args.squared_norm};
  const auto all = [](const AdamWTensor<T>&) { return true; };
  for_tables(args.tensors, all, [&](const Table<T>& table, std::int64_t) {
    launch("adamw_step", adamw_step_kernel<T>, blocks_for(table.pieces, 1, kStepBlocks), kThreads, 0,
           exec.stream, table, with);
  });
}

template <class T>
void squared_norm(const Exec& exec, const SquaredNorm<T>& args) {
  const auto has_gradient = [](const AdamWTensor<T>& tensor) { return tensor.g != nullptr; };
  const std::int64_t pieces = for_tables(args.tensors, has_gradient, [](const Table<T>&, std::int64_t) {});
  const Scratch<double> sums(std::max<std::int64_t>(1, pieces));
  for_tables(args.tensors, has_gradient, [&](const Table<T>& table, std::int64_t before) {
    launch("squared_norm", squared_norm_kernel<T>, blocks_for(table.pieces, 1), kThreads, 0, exec.stream,
           table, sums.data() + before);
  });
  launch("squared_norm", add_pieces_kernel, 1, kThreads, 0, exec.stream,
         static_cast<const double*>(sums.data()), pieces, args.out,
         args.prepare != nullptr ? *args.prepare : AdamWPrepare{}, args.prepare != nullptr);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(adamw_step, AdamWStep)
WEDGE_INSTANTIATE_CUDA(squared_norm, SquaredNorm)
}  // namespace wedge
