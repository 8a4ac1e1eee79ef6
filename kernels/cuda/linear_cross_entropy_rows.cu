// A row's loss, log Σ exp(logits) - logits[target], and in the place of its logits a row of
// G = (softmax - onehot) / T.
//
// Layout:
//   rows       a block takes row after row: one is in registers from its maximum over the sum of exponentials
//              to G, and where rows are long the next comes to shared memory meanwhile
//   long_rows  of more than 32,768 columns, are read twice
// A thread takes exponentials to its own columns' maximum, so that the block's maximum and sum need one
// exchange. Maxima, exponentials and sums are float32. Rows start on multiples of 8 elements, and G is zero
// between V and there. Bytes moved: logits and G once, in L2.
#include "kernels/cuda/linear_cross_entropy_rows.cuh"

#include <cfloat>
#include <cmath>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/mma.cuh"
#include "tensor/cuda/gpu.h"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;
constexpr int kWideThreads = 512;   // of a block with rows that come ahead
constexpr int kLongThreads = 1024;  // of a block with a long row

// Columns that a thread moves at once, 16 bytes, in float32.
template <class In>
constexpr int kEach = 16 / static_cast<int>(sizeof(In));
template <class In>
using Columns = Pack<float, kEach<In>>;

template <class In>
__device__ Columns<In> load_columns(const In* from) {
  const auto pack = *reinterpret_cast<const Pack<In, kEach<In>>*>(from);
  Columns<In> x;
  for (int k = 0; k < kEach<In>; ++k) x.v[k] = to_float(pack.v[k]);
  return x;
}

// Columns of G but for the target's. They leave L2 before they are read again.
__device__ inline void store_columns(float* g, const Columns<float>& e, float scale) {
  Columns<float> scaled;
  for (int k = 0; k < 4; ++k) scaled.v[k] = e.v[k] * scale;
  store_streaming(reinterpret_cast<Columns<float>*>(g), scaled);
}
__device__ inline void store_columns(BFloat16* g, const Columns<BFloat16>& e, float scale) {
  Pack<std::uint32_t, 4> pairs;
  for (int k = 0; k < 4; ++k) pairs.v[k] = pack_bf16(e.v[2 * k] * scale, e.v[2 * k + 1] * scale);
  store_streaming(reinterpret_cast<Pack<std::uint32_t, 4>*>(g), pairs);
}

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
  // e^(max of `part` - max): what a sum or an exponential that was taken to another maximum is multiplied by
  __device__ float rescale(const Exponential& part) const {
    return kRounds ? exp2f(part.shift_ - shift_) : expf(part.shift_ - shift_);
  }
  // log Σ e^logit, given Σ e^(logit - max)
  __device__ double log_sum(float sum) const {
    const double max = kRounds ? shift_ / static_cast<double>(kLog2E) : shift_;
    return max + log(static_cast<double>(sum));
  }

 private:
  static constexpr bool kRounds = std::is_same_v<In, BFloat16>;
  float shift_;
};

// A row's maximum and its Σ e^(logit - maximum), of what the threads of a block have of both. `shared` holds
// two floats for each warp and is read until the next barrier.
struct RowSum {
  float max, sum;
};
template <class In>
__device__ RowSum block_row_sum(RowSum part, float* shared) {
  const int lane = lane_of_warp(), warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const auto over_warp = [](RowSum x) {
    const float max = warp_max(x.max);
    return RowSum{max, warp_sum(x.sum * Exponential<In>(max).rescale(Exponential<In>(x.max)))};
  };
  part = over_warp(part);
  if (lane == 0) {
    shared[2 * warp] = part.max;
    shared[2 * warp + 1] = part.sum;
  }
  __syncthreads();
  return over_warp(lane < warps ? RowSum{shared[2 * lane], shared[2 * lane + 1]} : RowSum{kLeast, 0.0f});
}

// A row's loss and its target's column of G, after the others, by the thread that stored that one.
template <class In>
__device__ void finish_row(const ChunkOfRows<In>& a, std::int64_t row, int target, float at_target,
                           const Exponential<In>& exponential, float sum, float scale) {
  a.losses[row] = exponential.log_sum(sum) - static_cast<double>(at_target);
  if (a.gradients) a.logits[row * a.stride + target] = from_float<In>((exponential(at_target) - sum) * scale);
}

// kPacks of kEach<In> columns are what a thread keeps of a row. With fewer blocks than rows a block needs
// shared memory for ahead_bytes(). Every thread reads there only what it copied itself.
template <int kThreadsOfBlock, int kPacks, class In>
__global__ void __launch_bounds__(kThreadsOfBlock) linear_cross_entropy_rows_kernel(ChunkOfRows<In> a) {
  constexpr int kWidth = kEach<In>, kStep = kWidth * kThreadsOfBlock;
  WEDGE_SHARED(float, scratch, 2 * 2 * kWarp);
  // Pack q of this thread starts q kStep columns after its first, with which so many are left of V and
  // stride.
  const int own = kWidth * static_cast<int>(threadIdx.x), V = static_cast<int>(a.V);
  const int left = V - own, to_write = static_cast<int>(a.stride) - own;
  const auto copy_ahead = [&](std::int64_t row) {
    const In* from = a.logits + row * a.stride + own;
    In* to = dynamic_shared<In>() + own;
    for (int i = own; i < V; i += kStep, from += kStep, to += kStep) cp_async_16(to, from);
    cp_async_commit();
  };
  Columns<In> x[kPacks];
  const auto load = [&](const In* from) {
    WEDGE_UNROLL
    for (int q = 0; q < kPacks; ++q) x[q] = q * kStep < left ? load_columns(from + q * kStep) : Columns<In>{};
  };

  std::int64_t row = blockIdx.x;
  if (row >= a.rows) return;
  load(a.logits + row * a.stride + own);
  bool more = row + gridDim.x < a.rows;
  if (more) copy_ahead(row + gridDim.x);
  for (int turn = 0;; turn ^= 1) {
    const int target = a.targets[row];
    const bool owns_target = target / kWidth % kThreadsOfBlock == static_cast<int>(threadIdx.x);
    const float at_target = owns_target ? to_float(a.logits[row * a.stride + target]) : 0;
    WEDGE_UNROLL
    for (int q = 0; q < kPacks; ++q)
      if ((q + 1) * kStep > V)  // not for all threads
        for (int k = 0; k < kWidth; ++k)
          if (q * kStep + k >= left) x[q].v[k] = -HUGE_VALF;
    float max = kLeast;
    WEDGE_UNROLL
    for (int q = 0; q < kPacks; ++q)
      for (int k = 0; k < kWidth; k += 4)
        max = fmaxf(max, fmaxf(fmaxf(x[q].v[k], x[q].v[k + 1]), fmaxf(x[q].v[k + 2], x[q].v[k + 3])));
    // The first row's successor was asked for at once; here what was ahead is in registers.
    if (more && row != blockIdx.x) copy_ahead(row + gridDim.x);

    const Exponential<In> own_exponential(max);
    Columns<In> sums = {};
    WEDGE_UNROLL
    for (int q = 0; q < kPacks; ++q)
      for (int k = 0; k < kWidth; ++k) {
        x[q].v[k] = own_exponential(x[q].v[k]);
        sums.v[k] += x[q].v[k];
      }
    float own_sum = 0;
    for (int k = 0; k < kWidth; k += 4)
      own_sum += (sums.v[k] + sums.v[k + 1]) + (sums.v[k + 2] + sums.v[k + 3]);
    // Two places by turns: no barrier has to part a row's reading from the next one's writing.
    const auto [row_max, sum] = block_row_sum<In>({max, own_sum}, scratch + turn * 2 * kWarp);
    const Exponential<In> exponential(row_max);
    const float scale = 1 / (sum * a.total_rows), own_scale = scale * exponential.rescale(own_exponential);
    if (a.gradients) {
      In* const g = a.logits + row * a.stride + own;
      WEDGE_UNROLL
      for (int q = 0; q < kPacks; ++q)
        if (q * kStep < to_write) store_columns(g + q * kStep, x[q], own_scale);
    }
    if (owns_target) finish_row(a, row, target, at_target, exponential, sum, scale);
    if (!more) return;
    row += gridDim.x;
    more = row + gridDim.x < a.rows;
    cp_async_wait<0>();
    load(dynamic_shared<In>() + own);
  }
}

template <class In>
constexpr std::int64_t ahead_bytes(std::int64_t V, int threads) {
  const std::int64_t step = kEach<In> * threads;
  return round_up(V, step) * static_cast<std::int64_t>(sizeof(In));
}

template <class In>
__global__ void __launch_bounds__(kLongThreads) linear_cross_entropy_long_rows_kernel(ChunkOfRows<In> a) {
  WEDGE_SHARED(float, scratch, 2 * kWarp);
  constexpr int kAtOnce = 16 / kEach<In>, kWidth = kEach<In>;
  const std::int64_t row = blockIdx.x, own = kWidth * static_cast<std::int64_t>(threadIdx.x);
  const int target = a.targets[row];
  In* const logits = a.logits + row * a.stride;
  const float at_target = to_float(logits[target]);  // G comes after a barrier
  // Calls use(x, i) with the columns x from i on, for all that are this thread's; -inf from V on.
  const auto go_through = [&](const auto& use) {
    for (std::int64_t first = own; first < a.stride; first += kWidth * kAtOnce * kLongThreads) {
      Columns<In> x[kAtOnce];
      WEDGE_UNROLL
      for (int q = 0; q < kAtOnce; ++q) {
        const std::int64_t i = first + q * kWidth * kLongThreads;
        x[q] = i < a.V ? load_columns(logits + i) : Columns<In>{};
        for (int k = 0; k < kWidth; ++k)
          if (i + k >= a.V) x[q].v[k] = -HUGE_VALF;
      }
      WEDGE_UNROLL
      for (int q = 0; q < kAtOnce; ++q) use(x[q], first + q * kWidth * kLongThreads);
    }
  };
  // To the maximum so far, which grows.
  RowSum part{kLeast, 0};
  go_through([&](const Columns<In>& x, std::int64_t) {
    const float before = part.max;
    for (int k = 0; k < kWidth; ++k) part.max = fmaxf(part.max, x.v[k]);
    const Exponential<In> exponential(part.max);
    part.sum *= exponential.rescale(Exponential<In>(before));
    for (int k = 0; k < kWidth; ++k) part.sum += exponential(x.v[k]);
  });
  const auto [max, sum] = block_row_sum<In>(part, scratch);
  const Exponential<In> exponential(max);
  const float scale = 1 / (sum * a.total_rows);
  if (a.gradients)
    go_through([&](Columns<In> x, std::int64_t i) {
      if (i >= a.stride) return;
      for (int k = 0; k < kWidth; ++k) x.v[k] = exponential(x.v[k]);
      store_columns(logits + i, x, scale);
    });
  if (target / kWidth % kLongThreads == static_cast<int>(threadIdx.x))
    finish_row(a, row, target, at_target, exponential, sum, scale);
}

}  // namespace

template <class In>
void linear_cross_entropy_rows(const Exec& exec, const ChunkOfRows<In>& args) {
  const auto go = [&](auto kernel, std::int64_t blocks, int threads, std::int64_t shared_bytes) {
    launch("linear_cross_entropy_rows", kernel, static_cast<unsigned>(blocks), threads,
           static_cast<std::size_t>(shared_bytes), exec.stream, args);
  };
  constexpr int kPacks = 32 / kEach<In>, kWidePacks = 64 / kEach<In>;  // of 32 and of 64 columns
  if (args.V <= 32 * kThreads)
    return go(linear_cross_entropy_rows_kernel<kThreads, kPacks, In>, args.rows, kThreads, 0);
  if (args.V > 64 * kWideThreads)
    return go(linear_cross_entropy_long_rows_kernel<In>, args.rows, kLongThreads, 0);
  // A multiprocessor has registers for one block of these: one row at a time, and the next.
  const std::int64_t blocks = multiprocessors(), ahead = ahead_bytes<In>(args.V, kWideThreads);
  const auto kernel = linear_cross_entropy_rows_kernel<kWideThreads, kWidePacks, In>;
  // `scratch` is there too
  if (args.rows <= blocks || static_cast<std::size_t>(ahead) + 1024 > shared_bytes_of_block())
    return go(kernel, args.rows, kWideThreads, 0);
  go(kernel, blocks, kWideThreads, ahead);
}

template void linear_cross_entropy_rows(const Exec&, const ChunkOfRows<float>&);
template void linear_cross_entropy_rows(const Exec&, const ChunkOfRows<BFloat16>&);

}  // namespace wedge::cu
