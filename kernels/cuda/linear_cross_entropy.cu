// The head's loss, mean of log Σ exp(logits) - logits[target] with logits = x Wᵀ, and its gradients dx = G W
// and dweight = Gᵀ x, G = (softmax - onehot) / T, in chunks of rows: logits [chunk, V] are all that ever
// stands in memory.
//
// Layout: a block a row of logits. One pass finds the maximum and the sum of exponentials together (each
// thread rescales its sum when its maximum grows), a second writes G; the row is then still in L2. Logits are
// float32. G is of the type of the products' factors, and goes over the logits where that is float32. Factors
// are of type T, or, with Exec::bf16_products, bfloat16 copies of x and W, made once where W's is not given.
// Rows start on multiples of 8 elements, which the products want: V is what it is. Bytes moved beside the
// products: logits twice (once without gradients), G once.
#include "kernels/linear_cross_entropy.h"

#include <cfloat>
#include <optional>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/gemm.cuh"
#include "tensor/cuda/gpu.h"

namespace wedge::cu {
namespace {

constexpr std::int64_t kChunk = 1024;
constexpr int kThreads = 256;

template <class In>
struct ChunkOfRows {
  std::int64_t V, stride;       // elements of a row, and between rows
  const float* logits;          // [rows of the chunk, V]
  In* gradient;                 // likewise, G =; may be the logits; or null
  const std::int32_t* targets;  // [rows of the chunk]
  double* losses;               // likewise, =
  double total_rows;
};

template <class In>
__global__ void linear_cross_entropy_rows_kernel(ChunkOfRows<In> a) {
  WEDGE_SHARED(float, scratch, kWarp);
  const std::int64_t row = blockIdx.x, target = a.targets[row];
  const float* const logits = a.logits + row * a.stride;
  const float at_target = logits[target];
  // Not -inf: e^(-inf - -inf) is not a number, and a logit of -inf has probability 0.
  float max = -FLT_MAX, sum = 0;
  for (std::int64_t i = threadIdx.x; i < a.V; i += kThreads) {
    const float logit = logits[i];
    if (logit > max) {
      sum *= expf(max - logit);
      max = logit;
    }
    sum += expf(logit - max);
  }
  const float row_max = block_max(max, scratch);
  const float row_sum = block_sum(sum * expf(max - row_max), scratch);
  if (threadIdx.x == 0)
    a.losses[row] =
        static_cast<double>(row_max) + log(static_cast<double>(row_sum)) - static_cast<double>(at_target);
  if (a.gradient == nullptr) return;
  In* const gradient = a.gradient + row * a.stride;
  const auto scale = static_cast<float>(1 / (row_sum * a.total_rows));
  for (std::int64_t i = threadIdx.x; i < a.V; i += kThreads)
    gradient[i] = from_float<In>((expf(logits[i] - row_max) - (i == target ? row_sum : 0)) * scale);
}

// One block: every thread adds every 256th row, then the threads' sums are added.
__global__ void linear_cross_entropy_mean_kernel(std::int64_t rows, const double* losses, float* loss) {
  WEDGE_SHARED(double, scratch, kWarp);
  double sum = 0;
  for (std::int64_t t = threadIdx.x; t < rows; t += kThreads) sum += losses[t];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) *loss = static_cast<float>(sum / static_cast<double>(rows));
}

// The loss with x and W given as the products' factors of type In.
template <class In, class T>
void in_chunks(const Exec& exec, const LinearCrossEntropy<T>& args, const In* all_x, const In* weight) {
  const std::int64_t V = args.V, D = args.D, stride = (V + 7) / 8 * 8;
  const std::int64_t chunk = args.rows < kChunk ? args.rows : kChunk;
  const Scratch<double> losses(args.rows);
  const Scratch<float> logits(chunk * stride);
  std::optional<Scratch<In>> own;  // G's memory where the logits' does not fit
  In* gradient = nullptr;
  if (args.dx != nullptr || args.dweight != nullptr) {
    if constexpr (std::is_same_v<In, float>) {
      gradient = logits.data();
    } else {
      gradient = own.emplace(chunk * stride).data();
    }
  }
  if (args.rows == 0 && args.dweight != nullptr)
    check(cudaMemsetAsync(args.dweight, 0, static_cast<std::size_t>(V * D) * sizeof(float),
                          static_cast<cudaStream_t>(exec.stream)),
          "linear_cross_entropy");
  for (std::int64_t first = 0; first < args.rows; first += kChunk) {
    const std::int64_t count = args.rows - first < kChunk ? args.rows - first : kChunk;
    const In* const x = all_x + first * D;
    gemm_to<In, float>(exec,
                       {.trans_b = true,
                        .M = count,
                        .N = V,
                        .K = D,
                        .A = x,
                        .lda = D,
                        .B = weight,
                        .ldb = D,
                        .C = nullptr,
                        .ldc = stride},
                       logits.data());
    launch("linear_cross_entropy_rows", linear_cross_entropy_rows_kernel<In>, static_cast<unsigned>(count),
           kThreads, 0, exec.stream,
           ChunkOfRows<In>{V, stride, logits.data(), gradient, args.targets + first, losses.data() + first,
                           static_cast<double>(args.rows)});
    if (args.dx != nullptr)
      gemm_to<In, T>(exec,
                     {.M = count,
                      .N = D,
                      .K = V,
                      .A = gradient,
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
                          .A = gradient,
                          .lda = stride,
                          .B = x,
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
      const bool have_weight = args.weight_rounded != nullptr;
      const Scratch<BFloat16> x(in_x), weight(have_weight ? 0 : in_weight);
      const auto round = [](std::int64_t n, const float* from, BFloat16* to) {
        copy_strided({1, {n}, {1}, {1}, to, from}, DType::bf16, DType::f32);
      };
      round(in_x, args.x, x.data());
      if (!have_weight) round(in_weight, args.weight, weight.data());
      return in_chunks<BFloat16>(exec, args, x.data(), have_weight ? args.weight_rounded : weight.data());
    }
  }
  in_chunks<T>(exec, args, args.x, args.weight);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(linear_cross_entropy, LinearCrossEntropy)
}  // namespace wedge
