// The head's loss, mean of log Σ exp(logits) - logits[target] with logits = x Wᵀ, and its gradients dx = G W
// and dweight = Gᵀ x, G = (softmax - onehot) / T.
//
// Layout: logits are made for so many rows at a time that they stay in L2, and a kernel turns them into
// losses and, in their place, rows of G (linear_cross_entropy_rows.cu). The two other products take more of G
// at once, up to five times L2: each after the first adds to dweight, which is as large as a chunk of logits.
// Logits are of G's type, that of the products' factors: T, or, with Exec::bf16_products, bfloat16 like the
// copies of x and W, which are made once where they are not given; but float32 where no gradients are wanted.
// Rows start on multiples of 8 elements. Where W has rows of zeros up to there, all sizes of the products are
// multiples of 8: cuBLAS has its kernels for Hopper only for those. Bytes moved beside the products: logits
// and G once, in L2.
#include "kernels/linear_cross_entropy.h"

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/linear_cross_entropy_rows.cuh"
#include "tensor/cuda/gpu.h"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kRowsOfTile = 128;  // the products like a multiple of it

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
  const auto tiles = [](std::int64_t rows) { return ceil_div(rows, kRowsOfTile); };
  const std::int64_t fit = bytes / static_cast<std::int64_t>(row_bytes) / kRowsOfTile;
  const std::int64_t most = fit < 1 ? 1 : fit;
  const std::int64_t chunks = ceil_div(tiles(all), most);
  const std::int64_t rows = chunks <= 1 ? all : ceil_div(tiles(all), chunks) * kRowsOfTile;
  return rows < all ? rows : all;
}

// What the rows are taken in: G of `of_gradient` rows lies in memory at once, logits are made of `chunk`.
struct Parts {
  std::int64_t of_gradient, chunk;
};
Parts parts_of(std::int64_t rows, std::int64_t V, std::size_t logit_bytes, bool gradients) {
  const auto l2 = static_cast<std::int64_t>(l2_bytes());
  const std::size_t row_bytes = static_cast<std::size_t>(padded_classes(V)) * logit_bytes;
  const std::int64_t most = gradients ? rows_in(5 * l2, row_bytes, rows) : rows;
  const std::int64_t chunk = rows_in(l2 * 5 / 8, row_bytes, most);
  return {gradients ? most : chunk, chunk};
}

// The loss with x and W given as the products' factors of type In; W has rows of zeros from V to
// `weight_rows`, which is V or padded_classes(V). Logits are Logit: In, where gradients are wanted.
template <class Logit, class In, class T>
void in_chunks(const Exec& exec, const LinearCrossEntropy<T>& args, const In* x, const In* weight,
               std::int64_t weight_rows) {
  const std::int64_t V = args.V, D = args.D, stride = padded_classes(V);
  const bool gradients = args.dx != nullptr || args.dweight != nullptr || args.kept != nullptr;
  const auto [of_gradient, chunk] = parts_of(args.rows, V, sizeof(Logit), gradients);
  const bool keeps = gradients && args.kept != nullptr;
  const Scratch<double> losses(args.rows);
  const Scratch<Logit> own(keeps ? 0 : of_gradient * stride);
  Logit* const logits = keeps ? static_cast<Logit*>(args.kept) : own.data();
  if (args.rows == 0 && args.dweight != nullptr) fill_with_zero(args.dweight, stride * D);
  const auto at_most = [](std::int64_t rows, std::int64_t limit) { return rows < limit ? rows : limit; };
  for (std::int64_t first = 0; first < args.rows; first += of_gradient) {
    const std::int64_t count = at_most(args.rows - first, of_gradient);
    const bool kept = keeps && first + count == args.rows;
    for (std::int64_t row = 0; row < count; row += chunk) {
      const std::int64_t rows = at_most(count - row, chunk);
      gemm_to<In, Logit>(exec, {.M = rows,
                                .N = weight_rows,
                                .K = D,
                                .A = {x + (first + row) * D, D},
                                .B = transposed(weight, D),
                                .C = {logits + row * stride, stride}});
      linear_cross_entropy_rows<Logit>(
          exec, {rows, V, stride, logits + row * stride, gradients, args.targets + first + row,
                 losses.data() + first + row, static_cast<float>(args.rows)});
    }
    if constexpr (std::is_same_v<Logit, In>) {
      if (args.dx != nullptr)
        gemm_to<In, T>(exec, {.M = count,
                              .N = D,
                              .K = weight_rows,
                              .A = {logits, stride},
                              .B = {weight, D},
                              .C = {args.dx + first * D, D}});
      if (args.dweight != nullptr && !kept)
        gemm_to<In, float>(exec, {.M = stride,
                                  .N = D,
                                  .K = count,
                                  .A = transposed(logits, stride),
                                  .B = {x + first * D, D},
                                  .C = {args.dweight, D},
                                  .beta = first > 0 ? 1.0f : 0.0f});
    }
  }
  launch("linear_cross_entropy_mean", linear_cross_entropy_mean_kernel, 1, kThreads, 0, exec.stream,
         args.rows, losses.data(), args.loss);
}

}  // namespace

HeadRows linear_cross_entropy_kept_rows(const Exec& exec, std::int64_t rows, std::int64_t V) {
  const std::size_t logit_bytes = exec.bf16_products ? sizeof(BFloat16) : sizeof(float);
  const std::int64_t part = parts_of(rows, V, logit_bytes, true).of_gradient;
  return {part, rows == 0 ? 0 : (rows - 1) % part + 1};
}

template <class T>
void linear_cross_entropy(const Exec& exec, const LinearCrossEntropy<T>& args) {
  const bool gradients = args.dx != nullptr || args.dweight != nullptr || args.kept != nullptr;
  if constexpr (std::is_same_v<T, float>) {
    if (exec.bf16_products) {
      const std::int64_t in_x = args.rows * args.D, in_weight = args.V * args.D;
      const std::int64_t padded = padded_classes(args.V), in_padded = padded * args.D;
      const bool have_x = args.x_rounded != nullptr, have_weight = args.weight_rounded != nullptr;
      const Scratch<BFloat16> x(have_x ? 0 : in_x), weight(have_weight ? 0 : in_padded);
      if (!have_x) round_result(in_x, args.x, x.data());
      if (!have_weight) {
        round_result(in_weight, args.weight, weight.data());
        fill_with_zero(weight.data() + in_weight, in_padded - in_weight);
      }
      const BFloat16* const in = have_x ? args.x_rounded : x.data();
      const BFloat16* const w = have_weight ? args.weight_rounded : weight.data();
      const std::int64_t weight_rows = have_weight && args.rounded_rows < padded ? args.V : padded;
      return gradients ? in_chunks<BFloat16>(exec, args, in, w, weight_rows)
                       : in_chunks<float>(exec, args, in, w, weight_rows);
    }
  }
  gradients ? in_chunks<T>(exec, args, args.x, args.weight, args.V)
            : in_chunks<float>(exec, args, args.x, args.weight, args.V);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(linear_cross_entropy, LinearCrossEntropy)
}  // namespace wedge
