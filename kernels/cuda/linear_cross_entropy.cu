// The head's loss, mean of log Σ exp(logits) - logits[target] with logits = x Wᵀ, and its gradients dx = G W
// and dweight = Gᵀ x, G = (softmax - onehot) / T.
//
// Layout: logits are made for so many rows at a time that they stay in L2, and a kernel turns them into
// losses and rows of G. The two other products take more of G at once, up to five halves of L2: each adds to
// dweight, which is as large as a chunk of logits.
//   rows       a block takes row after row: one is in registers from its maximum over the sum of exponentials
//              to G, and where rows are long the next comes to shared memory meanwhile
//   long_rows  of more than 32,768 columns, are read twice; a thread rescales its sum when its maximum grows
// Logits are float32, G is of the type of the products' factors: T, or, with Exec::bf16_products, bfloat16
// like the copies of x and W, which are made once where they are not given. Rows start on multiples of 8
// elements, and G is zero between V and there. Where W has rows of zeros up to there, all sizes of the
// products are multiples of 8: cuBLAS has its kernels for Hopper only for those. Bytes moved beside the
// products: logits once, in L2, which a rows kernel tells not to write them back, and G once.
#include "kernels/linear_cross_entropy.h"

#include <cfloat>
#include <cmath>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/mma.cuh"
#include "tensor/cuda/gpu.h"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;
constexpr int kWideThreads = 512;          // of a block with rows that come ahead
constexpr int kLongThreads = 1024;         // of a block with a long row
constexpr int kLine = 32;                  // logits in 128 bytes, which L2 keeps or writes back as a whole
constexpr std::int64_t kRowsOfTile = 128;  // the products like a multiple of it

template <class In>
struct ChunkOfRows {
  std::int64_t rows, V, stride;  // elements of a row, and between rows: padded_classes(V)
  std::int64_t logits_stride;    // whole lines of 128 bytes
  float* logits;                 // [rows, V]; undefined afterwards
  In* gradient;                  // [rows, stride], G =, zeros from V on; or null
  const std::int32_t* targets;   // [rows]
  double* losses;                // likewise, =
  float total_rows;
};

using Four = Pack<float, 4>;

// Not -inf: e^(-inf - -inf) is not a number, and a logit of -inf has probability 0. Half of the least, so
// that it may be multiplied by log2 e.
constexpr float kLeast = -FLT_MAX / 2;

// e^(logit - max), which only G needs: where that is bfloat16 as 2^(logit · log2 e - max · log2 e).
template <class In>
class Exponential {
 public:
  __device__ explicit Exponential(float max) : shift_(kRounds ? max * kLog2E : max) {}
  __device__ float operator()(float logit) const {
    if constexpr (kRounds) return exp2_approx(fmaf(logit, kLog2E, -shift_));
    return expf(logit - shift_);
  }
  // log Σ e^logit, given Σ e^(logit - max)
  __device__ double log_sum(float sum) const {
    const double max = kRounds ? shift_ / static_cast<double>(kLog2E) : shift_;
    return max + log(static_cast<double>(sum));
  }

 private:
  static constexpr bool kRounds = std::is_same_v<In, BFloat16>;
  static constexpr float kLog2E = 1.44269504f;
  float shift_;
};

// Four columns of G but for the target's. They leave L2 before they are read again.
__device__ inline void store_four(float* g, const Four& e, float scale) {
  Four scaled;
  for (int k = 0; k < 4; ++k) scaled.v[k] = e.v[k] * scale;
  store_streaming(reinterpret_cast<Four*>(g), scaled);
}
__device__ inline void store_four(BFloat16* g, const Four& e, float scale) {
  const Pack<std::uint32_t, 2> pairs = {pack_bf16(e.v[0] * scale, e.v[1] * scale),
                                        pack_bf16(e.v[2] * scale, e.v[3] * scale)};
  store_streaming(reinterpret_cast<Pack<std::uint32_t, 2>*>(g), pairs);
}

// A row's loss and its target's column of G, after the others, by the thread that stored that one.
template <class In>
__device__ void finish_row(const ChunkOfRows<In>& a, std::int64_t row, int target, float at_target,
                           const Exponential<In>& exponential, float sum, float scale) {
  a.losses[row] = exponential.log_sum(sum) - static_cast<double>(at_target);
  if (a.gradient != nullptr)
    a.gradient[row * a.stride + target] = from_float<In>((exponential(at_target) - sum) * scale);
}

// kQuads of four columns are what a thread keeps of a row. With fewer blocks than rows a block needs shared
// memory for ahead_bytes(). Every thread reads there only what it copied itself.
template <int kThreadsOfBlock, int kQuads, class In>
__global__ void __launch_bounds__(kThreadsOfBlock) linear_cross_entropy_rows_kernel(ChunkOfRows<In> a) {
  constexpr int kStep = 4 * kThreadsOfBlock;
  WEDGE_SHARED(float, scratch, kWarp);
  // Quad q of this thread starts q kStep columns after its first, with which so many are left of V and
  // stride.
  const int own = 4 * static_cast<int>(threadIdx.x), V = static_cast<int>(a.V);
  const int left = V - own, to_write = static_cast<int>(a.stride) - own;
  const auto copy_ahead = [&](std::int64_t row) {
    const float* from = a.logits + row * a.logits_stride + own;
    float* to = dynamic_shared<float>() + own;
    for (int i = own; i < V; i += kStep, from += kStep, to += kStep) cp_async_16(to, from);
    cp_async_commit();
  };
  Four x[kQuads];
  const auto load = [&](const float* from) {
    WEDGE_UNROLL
    for (int q = 0; q < kQuads; ++q)
      x[q] = q * kStep < left ? *reinterpret_cast<const Four*>(from + q * kStep) : Four{};
  };

  std::int64_t row = blockIdx.x;
  if (row >= a.rows) return;
  load(a.logits + row * a.logits_stride + own);
  bool more = row + gridDim.x < a.rows;
  if (more) copy_ahead(row + gridDim.x);
  for (;;) {
    const int target = a.targets[row];
    WEDGE_UNROLL
    for (int q = 0; q < kQuads; ++q)
      if ((q + 1) * kStep > V)  // not for all threads
        for (int k = 0; k < 4; ++k)
          if (q * kStep + k >= left) x[q].v[k] = -HUGE_VALF;
    float max = kLeast;
    WEDGE_UNROLL
    for (int q = 0; q < kQuads; ++q)
      max = fmaxf(max, fmaxf(fmaxf(x[q].v[0], x[q].v[1]), fmaxf(x[q].v[2], x[q].v[3])));
    max = block_max(max, scratch);
    // The first row's successor was asked for at once; here what was ahead is in registers.
    if (more && row != blockIdx.x) copy_ahead(row + gridDim.x);
    const bool owns_target = target / 4 % kThreadsOfBlock == static_cast<int>(threadIdx.x);
    const float at_target = owns_target ? a.logits[row * a.logits_stride + target] : 0;

    const Exponential<In> exponential(max);
    Four sums = {};
    WEDGE_UNROLL
    for (int q = 0; q < kQuads; ++q)
      for (int k = 0; k < 4; ++k) {
        x[q].v[k] = exponential(x[q].v[k]);
        sums.v[k] += x[q].v[k];
      }
    const float sum = block_sum((sums.v[0] + sums.v[1]) + (sums.v[2] + sums.v[3]), scratch);
    const float scale = 1 / (sum * a.total_rows);
    // All threads have read theirs.
    float* const logits = a.logits + row * a.logits_stride;
    for (int i = kLine * static_cast<int>(threadIdx.x); i < V; i += kLine * kThreadsOfBlock)
      discard_line(logits + i);
    if (a.gradient != nullptr) {
      In* const g = a.gradient + row * a.stride + own;
      WEDGE_UNROLL
      for (int q = 0; q < kQuads; ++q)
        if (q * kStep < to_write) store_four(g + q * kStep, x[q], scale);
    }
    if (owns_target) finish_row(a, row, target, at_target, exponential, sum, scale);
    if (!more) return;
    row += gridDim.x;
    more = row + gridDim.x < a.rows;
    cp_async_wait<0>();
    load(dynamic_shared<float>() + own);
  }
}

constexpr std::int64_t ahead_bytes(std::int64_t V, int threads) {
  return (V + 4 * threads - 1) / (4 * threads) * (4 * threads) * static_cast<std::int64_t>(sizeof(float));
}

// Columns i to i + 3 of a row of logits; -inf from V on.
__device__ inline Four load_four(const float* row, std::int64_t i, std::int64_t V) {
  Four x = {-HUGE_VALF, -HUGE_VALF, -HUGE_VALF, -HUGE_VALF};
  if (i < V) x = *reinterpret_cast<const Four*>(row + i);
  for (int k = 0; k < 4; ++k)
    if (i + k >= V) x.v[k] = -HUGE_VALF;
  return x;
}

template <class In>
__global__ void __launch_bounds__(kLongThreads) linear_cross_entropy_long_rows_kernel(ChunkOfRows<In> a) {
  WEDGE_SHARED(float, scratch, kWarp);
  constexpr int kAtOnce = 4;
  const std::int64_t row = blockIdx.x, own = 4 * threadIdx.x;
  const int target = a.targets[row];
  const float* const logits = a.logits + row * a.logits_stride;
  // Calls use(x, i) with four columns x from i on, for all that are this thread's.
  const auto go_through = [&](const auto& use) {
    for (std::int64_t first = own; first < a.stride; first += 4 * kAtOnce * kLongThreads) {
      Four x[kAtOnce];
      WEDGE_UNROLL
      for (int q = 0; q < kAtOnce; ++q) x[q] = load_four(logits, first + q * 4 * kLongThreads, a.V);
      WEDGE_UNROLL
      for (int q = 0; q < kAtOnce; ++q) use(x[q], first + q * 4 * kLongThreads);
    }
  };
  float max = kLeast, sum = 0;
  go_through([&](const Four& x, std::int64_t) {
    const float before = max;
    for (int k = 0; k < 4; ++k) max = fmaxf(max, x.v[k]);
    sum *= expf(before - max);
    for (int k = 0; k < 4; ++k) sum += expf(x.v[k] - max);
  });
  const float row_max = block_max(max, scratch);
  const Exponential<In> exponential(row_max);
  sum = block_sum(sum * expf(max - row_max), scratch);
  const float scale = 1 / (sum * a.total_rows);
  if (a.gradient != nullptr)
    go_through([&](Four x, std::int64_t i) {
      if (i >= a.stride) return;
      for (int k = 0; k < 4; ++k) x.v[k] = exponential(x.v[k]);
      store_four(a.gradient + row * a.stride + i, x, scale);
    });
  if (target / 4 % kLongThreads == static_cast<int>(threadIdx.x))
    finish_row(a, row, target, logits[target], exponential, sum, scale);
}

template <class In>
void launch_rows(const Exec& exec, const ChunkOfRows<In>& args) {
  const auto go = [&](auto kernel, std::int64_t blocks, int threads, std::int64_t shared_bytes) {
    launch("linear_cross_entropy_rows", kernel, static_cast<unsigned>(blocks), threads,
           static_cast<std::size_t>(shared_bytes), exec.stream, args);
  };
  constexpr int kQuads = 8, kWideQuads = 16;
  if (args.V <= 4 * kQuads * kThreads)
    return go(linear_cross_entropy_rows_kernel<kThreads, kQuads, In>, args.rows, kThreads, 0);
  if (args.V > 4 * kWideQuads * kWideThreads)
    return go(linear_cross_entropy_long_rows_kernel<In>, args.rows, kLongThreads, 0);
  // A multiprocessor has registers for one block of these: one row at a time, and the next.
  const std::int64_t blocks = multiprocessors(), ahead = ahead_bytes(args.V, kWideThreads);
  const auto kernel = linear_cross_entropy_rows_kernel<kWideThreads, kWideQuads, In>;
  // `scratch` is there too
  if (args.rows <= blocks || static_cast<std::size_t>(ahead) + 1024 > shared_bytes_of_block())
    return go(kernel, args.rows, kWideThreads, 0);
  go(kernel, blocks, kWideThreads, ahead);
}

// One block: every thread adds every 256th row, then the threads' sums are added.
__global__ void linear_cross_entropy_mean_kernel(std::int64_t rows, const double* losses, float* loss) {
  WEDGE_SHARED(double, scratch, kWarp);
  double sum = 0;
  for (std::int64_t t = threadIdx.x; t < rows; t += kThreads) sum += losses[t];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) *loss = static_cast<float>(sum / static_cast<double>(rows));
}

// How many of `all` rows to take at a time, in chunks of about one size that fill at most `bytes` each; never
// fewer than a tile of the products has.
std::int64_t rows_in(std::int64_t bytes, std::size_t row_bytes, std::int64_t all) {
  const auto tiles = [](std::int64_t rows) { return (rows + kRowsOfTile - 1) / kRowsOfTile; };
  const std::int64_t fit = bytes / static_cast<std::int64_t>(row_bytes) / kRowsOfTile;
  const std::int64_t most = fit < 1 ? 1 : fit;
  const std::int64_t chunks = (tiles(all) + most - 1) / most;
  const std::int64_t rows = chunks <= 1 ? all : (tiles(all) + chunks - 1) / chunks * kRowsOfTile;
  return rows < all ? rows : all;
}

// The loss with x and W given as the products' factors of type In; W has rows of zeros from V to
// `weight_rows`, which is V or padded_classes(V).
template <class In, class T>
void in_chunks(const Exec& exec, const LinearCrossEntropy<T>& args, const In* x, const In* weight,
               std::int64_t weight_rows) {
  const std::int64_t V = args.V, D = args.D, stride = padded_classes(V);
  const std::int64_t logits_stride = (V + kLine - 1) / kLine * kLine;
  const bool gradients = args.dx != nullptr || args.dweight != nullptr;
  const auto l2 = static_cast<std::int64_t>(l2_bytes());
  const std::int64_t of_gradient = rows_in(l2 * 5 / 2, stride * sizeof(In), args.rows);
  const std::int64_t chunk = rows_in(l2 * 5 / 8, logits_stride * sizeof(float), of_gradient);
  const Scratch<double> losses(args.rows);
  // Blocks start at 64 bytes, lines at 128.
  const Scratch<float> logits_memory(chunk * logits_stride + kLine / 2);
  const bool on_line = is_aligned(logits_memory.data(), kLine * sizeof(float));
  float* const logits = logits_memory.data() + (on_line ? 0 : kLine / 2);
  const Scratch<In> gradient(gradients ? of_gradient * stride : 0);
  if (args.rows == 0 && args.dweight != nullptr)
    check(cudaMemsetAsync(args.dweight, 0, static_cast<std::size_t>(stride * D) * sizeof(float),
                          static_cast<cudaStream_t>(exec.stream)),
          "linear_cross_entropy");
  const auto at_most = [](std::int64_t rows, std::int64_t limit) { return rows < limit ? rows : limit; };
  for (std::int64_t first = 0; first < args.rows; first += of_gradient) {
    const std::int64_t count = at_most(args.rows - first, of_gradient);
    for (std::int64_t row = 0; row < count; row += chunk) {
      const std::int64_t rows = at_most(count - row, chunk);
      gemm_to<In, float>(exec,
                         {.trans_b = true,
                          .M = rows,
                          .N = weight_rows,
                          .K = D,
                          .A = x + (first + row) * D,
                          .lda = D,
                          .B = weight,
                          .ldb = D,
                          .C = nullptr,
                          .ldc = logits_stride},
                         logits);
      launch_rows<In>(
          exec, {rows, V, stride, logits_stride, logits, gradients ? gradient.data() + row * stride : nullptr,
                 args.targets + first + row, losses.data() + first + row, static_cast<float>(args.rows)});
    }
    if (args.dx != nullptr)
      gemm_to<In, T>(exec,
                     {.M = count,
                      .N = D,
                      .K = weight_rows,
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
                          .M = stride,
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
      const std::int64_t padded = padded_classes(args.V), in_padded = padded * args.D;
      const bool have_x = args.x_rounded != nullptr, have_weight = args.weight_rounded != nullptr;
      const Scratch<BFloat16> x(have_x ? 0 : in_x), weight(have_weight ? 0 : in_padded);
      if (!have_x) round_result(in_x, args.x, x.data());
      if (!have_weight) {
        round_result(in_weight, args.weight, weight.data());
        check(cudaMemsetAsync(weight.data() + in_weight, 0,
                              static_cast<std::size_t>(in_padded - in_weight) * sizeof(BFloat16),
                              static_cast<cudaStream_t>(exec.stream)),
              "linear_cross_entropy");
      }
      return in_chunks<BFloat16>(exec, args, have_x ? args.x_rounded : x.data(),
                                 have_weight ? args.weight_rounded : weight.data(),
                                 have_weight && args.rounded_rows < padded ? args.V : padded);
    }
  }
  in_chunks<T>(exec, args, args.x, args.weight, args.V);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(linear_cross_entropy, LinearCrossEntropy)
}  // namespace wedge
