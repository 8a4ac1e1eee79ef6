// y[t] = weight[t · step + ids[t]], and y[b, l] = mask ∘ (tokens[ids[b, l]] + positions[l]).
//
// Layout: a warp a row, lanes over its words, of 16 bytes where sizes and addresses allow it; the second
// takes four columns a lane, which share a Philox block, and loads two lots of them before it stores. Where
// backward wants the order of the ids, the first blocks of the same launch make it (sort_ids.cuh) while the
// others wait for memory. Bytes: each reads and writes rows · D, the second also half as much for y's
// bfloat16 copy.
#include "kernels/embedding.h"

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/dropout_mask.cuh"
#include "kernels/cuda/sort_ids.cuh"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kUnroll = 2;
static_assert(kThreads == id_sort::kThreads, "blocks of one launch do either");
static_assert(kOrderedInForward == kRankedRows && sizeof(IdAt) == 2 * sizeof(std::int32_t));

template <class Word>
__global__ void __launch_bounds__(kThreads)
    embedding_forward_kernel(std::int64_t rows, std::int64_t words, std::int64_t step,
                             const std::int32_t* ids, const Word* weight, Word* y) {
  const std::int64_t warps = threads_in_grid() / kWarp;
  for (std::int64_t t = thread_in_grid() / kWarp; t < rows; t += warps) {
    const Word* from = weight + (t * step + ids[t]) * words;
    Word* to = y + t * words;
    for (std::int64_t i = static_cast<int>(threadIdx.x) % kWarp; i < words; i += kWarp) to[i] = from[i];
  }
}

template <class Word>
void launch_forward(const Exec& exec, std::int64_t rows, std::int64_t words, std::int64_t step,
                    const std::int32_t* ids, const Word* weight, Word* y) {
  launch("embedding_forward", embedding_forward_kernel<Word>, blocks_for(rows, kWarps), kThreads, 0,
         exec.stream, rows, words, step, ids, weight, y);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    token_position_forward_kernel(TokenPositionForward<T> args, MaskSource source, int ordering_blocks,
                                  bool ids_aligned) {
  const auto rows = static_cast<int>(args.B * args.L);
  int block = static_cast<int>(blockIdx.x);
  if (block < ordering_blocks) {
    id_sort::rank_ids(block, rows, args.ids, ids_aligned, reinterpret_cast<IdAt*>(args.order));
    return;
  }
  block -= ordering_blocks;
  const int t = block * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (t >= rows) return;
  using Words = Pack<T, kWidth>;
  const Masks mask(source);
  const T* token = args.tokens + std::int64_t{args.ids[t]} * args.D;
  const T* position = args.positions + t % static_cast<int>(args.L) * args.D;
  const std::int64_t row = t * args.D;
  constexpr int kStep = kWarp * kWidth;
  for (std::int64_t d = lane_of_warp() * kWidth; d < args.D; d += kUnroll * kStep) {
    Words a[kUnroll], b[kUnroll];
    WEDGE_UNROLL
    for (int j = 0; j < kUnroll; ++j)
      if (d + j * kStep < args.D) {
        a[j] = *reinterpret_cast<const Words*>(token + d + j * kStep);
        b[j] = *reinterpret_cast<const Words*>(position + d + j * kStep);
      }
    WEDGE_UNROLL
    for (int j = 0; j < kUnroll; ++j) {
      if (d + j * kStep >= args.D) continue;
      const std::int64_t i = row + d + j * kStep;
      float m[kWidth];
      mask.fill(i, m);
      Words y;
      Pack<BFloat16, kWidth> rounded;
      WEDGE_UNROLL
      for (int w = 0; w < kWidth; ++w) {
        const T sum = from_float<T>(to_float(a[j].v[w]) + to_float(b[j].v[w]));
        y.v[w] = from_float<T>(m[w] * to_float(sum));
        rounded.v[w] = from_float<BFloat16>(to_float(y.v[w]));
      }
      *reinterpret_cast<Words*>(args.y + i) = y;
      if (args.rounded != nullptr) *reinterpret_cast<Pack<BFloat16, kWidth>*>(args.rounded + i) = rounded;
    }
  }
}

}  // namespace

template <class T>
void embedding_forward(const Exec& exec, const EmbeddingForward<T>& args) {
  if (args.rows == 0 || args.D == 0) return;
  const std::int64_t bytes = args.D * static_cast<std::int64_t>(sizeof(T));
  if (bytes % 16 == 0 && all_aligned(16, args.weight, args.y)) {
    launch_forward(exec, args.rows, bytes / 16, args.step, args.ids,
                   reinterpret_cast<const uint4*>(args.weight), reinterpret_cast<uint4*>(args.y));
  } else {
    launch_forward(exec, args.rows, args.D, args.step, args.ids, args.weight, args.y);
  }
}

template <class T>
void token_position_forward(const Exec& exec, const TokenPositionForward<T>& args) {
  const std::int64_t rows = args.B * args.L;
  if (rows == 0) return;
  const auto ordering =
      args.order != nullptr ? static_cast<int>(blocks_for(rows, id_sort::kRankedByBlock)) : 0;
  const auto run = [&]<int kWidth>(std::integral_constant<int, kWidth>) {
    launch("token_position_forward", token_position_forward_kernel<T, kWidth>,
           ordering + blocks_for(rows, kWarps), kThreads, 0, exec.stream, args, MaskSource(args.mask),
           ordering, all_aligned(16, args.ids));
  };
  if (args.D % 4 == 0 && all_aligned(4 * sizeof(T), args.tokens, args.positions, args.y) &&
      all_aligned(4 * sizeof(BFloat16), args.rounded))
    run(std::integral_constant<int, 4>());
  else
    run(std::integral_constant<int, 1>());
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(embedding_forward, EmbeddingForward)
WEDGE_INSTANTIATE_CUDA(token_position_forward, TokenPositionForward)
}  // namespace wedge
