// The head's loss, mean of log Σ exp(logits) - logits[target] with logits = x Wᵀ, and its gradients dx = G W
// and dweight = Gᵀ x, G = (softmax - onehot) / T.
//
// Layout: logits are made for so many rows at a time that they stay in L2, and a kernel turns them into
// losses and rows of G. The two other products take more of G at once, up to five times L2: each adds to
// dweight, which is as large as a chunk of logits.
//   rows       a block a row, which stays in registers from its maximum over the sum of exponentials to G
//   long_rows  of more than 32,768 columns, are read twice; a thread rescales its sum when its maximum grows
// Logits are float32, G is of the type of the products' factors: T, or, with Exec::bf16_products, bfloat16
// like the copies of x and W, which are made once where they are not given. Rows start on multiples of 8
// elements, which the products want: V is what it is. Bytes moved beside the products: logits once, in L2,
// and G once.
#include "kernels/linear_cross_entropy.h"

#include <cfloat>
#include <cmath>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/gemm.cuh"
#include "tensor/cuda/gpu.h"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;
constexpr int kQuads = 8;                  // of four columns, that a thread keeps of a row
constexpr int kLongThreads = 1024;         // of a block with a long row
constexpr std::int64_t kRowsOfTile = 128;  // the products like a multiple of it

template <class In>
struct ChunkOfRows {
  std::int64_t V, stride;       // elements of a row, and between rows
  const float* logits;          // [rows of the chunk, V]
  In* gradient;                 // likewise, G =; or null
  const std::int32_t* targets;  // [rows of the chunk]
  double* losses;               // likewise, =
  double total_rows;
};

template <class T>
using Four = Pack<T, 4>;

// Columns i to i + 3 of a row of logits; -inf beyond its end, where memory goes on to a multiple of 8.
__device__ inline Four<float> load_four(const float* row, std::int64_t i, std::int64_t V) {
  Four<float> x = {-HUGE_VALF, -HUGE_VALF, -HUGE_VALF, -HUGE_VALF};
  if (i < V) x = *reinterpret_cast<const Four<float>*>(row + i);
  for (int k = 0; k < 4; ++k)
    if (i + k >= V) x.v[k] = -HUGE_VALF;
  return x;
}

// One row's statistics, and what follows from them.
struct RowStatistics {
  float max, sum;  // of the logits, and of exp(logit - max)

  __device__ double loss(float at_target) const {
    return static_cast<double>(max) + log(static_cast<double>(sum)) - static_cast<double>(at_target);
  }
  // Four columns of G, whose e are exp(logit - max).
  template <class In>
  __device__ void store(const ChunkOfRows<In>& a, const Four<float>& e, std::int64_t i, std::int64_t target,
                        In* gradient) const {
    if (i >= a.V) return;
    const auto scale = static_cast<float>(1 / (sum * a.total_rows));
    Four<In> g;
    for (int k = 0; k < 4; ++k) g.v[k] = from_float<In>((e.v[k] - (i + k == target ? sum : 0)) * scale);
    *reinterpret_cast<Four<In>*>(gradient + i) = g;
  }
};

// Not -inf: e^(-inf - -inf) is not a number, and a logit of -inf has probability 0.
constexpr float kLeast = -FLT_MAX;

template <int kThreadsOfBlock, class In>
__global__ void __launch_bounds__(kThreadsOfBlock) linear_cross_entropy_rows_kernel(ChunkOfRows<In> a) {
  WEDGE_SHARED(float, scratch, kWarp);
  const std::int64_t row = blockIdx.x, target = a.targets[row];
  const float* const logits = a.logits + row * a.stride;
  const auto column = [](int q) { return 4 * static_cast<std::int64_t>(q * kThreadsOfBlock + threadIdx.x); };
  Four<float> x[kQuads];
  WEDGE_UNROLL
  for (int q = 0; q < kQuads; ++q) x[q] = load_four(logits, column(q), a.V);
  float max = kLeast, sum = 0;
  WEDGE_UNROLL
  for (int q = 0; q < kQuads; ++q)
    for (int k = 0; k < 4; ++k) max = fmaxf(max, x[q].v[k]);
  max = block_max(max, scratch);
  WEDGE_UNROLL
  for (int q = 0; q < kQuads; ++q)
    for (int k = 0; k < 4; ++k) {
      x[q].v[k] = expf(x[q].v[k] - max);
      sum += x[q].v[k];
    }
  const RowStatistics statistics{max, block_sum(sum, scratch)};
  if (threadIdx.x == 0) a.losses[row] = statistics.loss(logits[target]);
  if (a.gradient == nullptr) return;
  WEDGE_UNROLL
  for (int q = 0; q < kQuads; ++q) statistics.store(a, x[q], column(q), target, a.gradient + row * a.stride);
}

template <class In>
__global__ void __launch_bounds__(kLongThreads) linear_cross_entropy_long_rows_kernel(ChunkOfRows<In> a) {
  WEDGE_SHARED(float, scratch, kWarp);
  constexpr int kAtOnce = 4;
  const std::int64_t row = blockIdx.x, target = a.targets[row];
  const float* const logits = a.logits + row * a.stride;
  // Calls use(x, i) with four columns x from i on, for all that are this thread's.
  const auto go_through = [&](const auto& use) {
    for (std::int64_t first = 4 * threadIdx.x; first < a.V; first += 4 * kAtOnce * kLongThreads) {
      Four<float> x[kAtOnce];
      WEDGE_UNROLL
      for (int q = 0; q < kAtOnce; ++q) x[q] = load_four(logits, first + q * 4 * kLongThreads, a.V);
      WEDGE_UNROLL
      for (int q = 0; q < kAtOnce; ++q) use(x[q], first + q * 4 * kLongThreads);
    }
  };
  float max = kLeast, sum = 0;
  go_through([&](const Four<float>& x, std::int64_t) {
    const float before = max;
    for (int k = 0; k < 4; ++k) max = fmaxf(max, x.v[k]);
    sum *= expf(before - max);
    for (int k = 0; k < 4; ++k) sum += expf(x.v[k] - max);
  });
  const float row_max = block_max(max, scratch);
  const RowStatistics statistics{row_max, block_sum(sum * expf(max - row_max), scratch)};
  if (threadIdx.x == 0) a.losses[row] = statistics.loss(logits[target]);
  if (a.gradient == nullptr) return;
  go_through([&](Four<float> x, std::int64_t i) {
    for (int k = 0; k < 4; ++k) x.v[k] = expf(x.v[k] - row_max);
    statistics.store(a, x, i, target, a.gradient + row * a.stride);
  });
}

template <class In>
void launch_rows(const Exec& exec, std::int64_t rows, const ChunkOfRows<In>& args) {
  const auto go = [&](auto kernel, int threads) {
    launch("linear_cross_entropy_rows", kernel, static_cast<unsigned>(rows), threads, 0, exec.stream, args);
  };
  if (args.V <= 4 * kQuads * kThreads)
    go(linear_cross_entropy_rows_kernel<kThreads, In>, kThreads);
  else if (args.V <= 4 * kQuads * kLongThreads)
    go(linear_cross_entropy_rows_kernel<kLongThreads, In>, kLongThreads);
  else
    go(linear_cross_entropy_long_rows_kernel<In>, kLongThreads);
}

// One block: every thread adds every 256th row, then the threads' sums are added.
__global__ void linear_cross_entropy_mean_kernel(std::int64_t rows, const double* losses, float* loss) {
  WEDGE_SHARED(double, scratch, kWarp);
  double sum = 0;
  for (std::int64_t t = threadIdx.x; t < rows; t += kThreads) sum += losses[t];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) *loss = static_cast<float>(sum / static_cast<double>(rows));
}

// How many rows fill at most `bytes`; never fewer than a tile of the products has.
std::int64_t rows_in(std::int64_t bytes, std::size_t row_bytes) {
  const std::int64_t rows = bytes / static_cast<std::int64_t>(row_bytes) / kRowsOfTile * kRowsOfTile;
  return rows < kRowsOfTile ? kRowsOfTile : rows;
}

// The loss with x and W given as the products' factors of type In.
template <class In, class T>
void in_chunks(const Exec& exec, const LinearCrossEntropy<T>& args, const In* x, const In* weight) {
  const std::int64_t V = args.V, D = args.D, stride = (V + 7) / 8 * 8;
  const bool gradients = args.dx != nullptr || args.dweight != nullptr;
  const auto at_most = [](std::int64_t rows, std::int64_t limit) { return rows < limit ? rows : limit; };
  const auto l2 = static_cast<std::int64_t>(l2_bytes());
  const std::int64_t chunk = at_most(args.rows, rows_in(l2 * 5 / 8, stride * sizeof(float)));
  const std::int64_t of_gradient = at_most(args.rows, rows_in(l2 * 5, stride * sizeof(In)));
  const Scratch<double> losses(args.rows);
  const Scratch<float> logits(chunk * stride);
  const Scratch<In> gradient(gradients ? of_gradient * stride : 0);
  if (args.rows == 0 && args.dweight != nullptr)
    check(cudaMemsetAsync(args.dweight, 0, static_cast<std::size_t>(V * D) * sizeof(float),
                          static_cast<cudaStream_t>(exec.stream)),
          "linear_cross_entropy");
  for (std::int64_t first = 0; first < args.rows; first += of_gradient) {
    const std::int64_t count = at_most(args.rows - first, of_gradient);
    for (std::int64_t row = 0; row < count; row += chunk) {
      const std::int64_t rows = at_most(count - row, chunk);
      gemm_to<In, float>(exec,
                         {.trans_b = true,
                          .M = rows,
                          .N = V,
                          .K = D,
                          .A = x + (first + row) * D,
                          .lda = D,
                          .B = weight,
                          .ldb = D,
                          .C = nullptr,
                          .ldc = stride},
                         logits.data());
      launch_rows<In>(
          exec, rows,
          {V, stride, logits.data(), gradients ? gradient.data() + row * stride : nullptr,
           args.targets + first + row, losses.data() + first + row, static_cast<double>(args.rows)});
    }
    if (args.dx != nullptr)
      gemm_to<In, T>(exec,
                     {.M = count,
                      .N = D,
                      .K = V,
                      .A = gradient.data(),
                      .lda = stride,
                      .B = weight,
                      .ldb = D,
                      .C = nullptr,
                      .ldc = D},
                     args.dx + first * D);
    if (args.dweight != nullptr)
      gemm_to<In, float>(exec,
                         {.trans_a = true,
                          .M = V,
                          .N = D,
                          .K = count,
                          .A = gradient.data(),
                          .lda = stride,
                          .B = x + first * D,
                          .ldb = D,
                          .beta = first > 0 ? 1.0f : 0.0f,
                          .C = nullptr,
                          .ldc = D},
                         args.dweight);
  }
  launch("linear_cross_entropy_mean", linear_cross_entropy_mean_kernel, 1, kThreads, 0, exec.stream,
         args.rows, losses.data(), args.loss);
}

}  // namespace

template <class T>
void linear_cross_entropy(const Exec& exec, const LinearCrossEntropy<T>& args) {
  if constexpr (std::is_same_v<T, float>) {
    if (exec.bf16_products) {
      const std::int64_t in_x = args.rows * args.D, in_weight = args.V * args.D;
      const bool have_x = args.x_rounded != nullptr, have_weight = args.weight_rounded != nullptr;
      const Scratch<BFloat16> x(have_x ? 0 : in_x), weight(have_weight ? 0 : in_weight);
      if (!have_x) round_result(in_x, args.x, x.data());
      if (!have_weight) round_result(in_weight, args.weight, weight.data());
      return in_chunks<BFloat16>(exec, args, have_x ? args.x_rounded : x.data(),
                                 have_weight ? args.weight_rounded : weight.data());
    }
  }
  in_chunks<T>(exec, args, args.x, args.weight);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(linear_cross_entropy, LinearCrossEntropy)
}  // namespace wedge
