#include "kernels/embedding.h"

#include "kernels/cpu/dropout_mask.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"

namespace wedge::cpu {

template <class T>
void embedding_forward(const Exec&, const EmbeddingForward<T>& args) {
  parallel_rows(args.rows, args.D, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t)
      std::copy_n(args.weight + (t * args.step + args.ids[t]) * args.D, args.D, args.y + t * args.D);
  });
}

namespace {

// dweight[row(t)] += dy[t], in the order of t.
template <class T, class Row>
void scatter_rows(std::int64_t rows, std::int64_t D, const T* dy, T* dweight, Row row) {
  // Threads own columns, so equal rows never meet.
  parallel_for(D, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = 0; t < rows; ++t)
      as_array(dweight + row(t) * D + begin, end - begin) += as_array(dy + t * D + begin, end - begin);
  });
}

template <class T>
void fill_with_zero(std::int64_t rows, std::int64_t D, T* dweight) {
  parallel_rows(rows, D, [&](std::int64_t begin, std::int64_t end) {
    std::fill(dweight + begin * D, dweight + end * D, T(0));
  });
}

}  // namespace

template <class T>
void embedding_backward(const Exec&, const EmbeddingBackward<T>& args) {
  if (!args.dweight.add) fill_with_zero(args.V, args.D, args.dweight.data);
  scatter_rows(args.rows, args.D, args.dy, args.dweight.data,
               [&](std::int64_t t) { return t * args.step + args.ids[t]; });
}

template <class T>
void token_position_forward(const Exec&, const TokenPositionForward<T>& args) {
  const std::int64_t D = args.D;
  for_masked_runs<T>(args.B * args.L * D, args.mask, [&](std::int64_t begin, std::int64_t n, auto mask) {
    for (std::int64_t i = begin; i < begin + n;) {
      const std::int64_t t = i / D, d = i % D, count = std::min(D - d, begin + n - i);
      const auto token = as_array(args.tokens + args.ids[t] * D + d, count);
      const auto position = as_array(args.positions + t % args.L * D + d, count);
      as_array(args.y + i, count) = mask.segment(i - begin, count) * (token + position);
      i += count;
    }
  });
}

template <class T>
void token_position_backward(const Exec&, const TokenPositionBackward<T>& args) {
  const std::int64_t rows = args.B * args.L, D = args.D;
  const T* dy = args.dy;
  // Once for both sums, which read it by columns.
  const Scratch<T> masked(args.mask.active() ? rows * D : 0);
  if (args.mask.active()) {
    for_masked_runs<T>(rows * D, args.mask, [&](std::int64_t i, std::int64_t n, auto mask) {
      as_array(masked.data() + i, n) = mask * as_array(args.dy + i, n);
    });
    dy = masked.data();
  }
  if (args.dtokens) {
    if (!args.dtokens.add) fill_with_zero(args.V, D, args.dtokens.data);
    scatter_rows(rows, D, dy, args.dtokens.data, [&](std::int64_t t) { return std::int64_t{args.ids[t]}; });
  }
  if (!args.dpositions) return;
  const std::int64_t columns = args.L * D;
  parallel_for(columns, std::max<std::int64_t>(16, kElementGrain / std::max<std::int64_t>(1, args.B)),
               [&](std::int64_t begin, std::int64_t end) {
                 constexpr std::int64_t kRun = 1024;
                 double sums[kRun];
                 for (std::int64_t i = begin; i < end; i += kRun) {
                   const std::int64_t n = std::min(kRun, end - i);
                   std::fill_n(sums, n, 0.0);
                   for (std::int64_t b = 0; b < args.B; ++b) {
                     const T* from = dy + b * columns + i;
                     for (std::int64_t j = 0; j < n; ++j) sums[j] += from[j];
                   }
                   for (std::int64_t j = 0; j < n; ++j)
                     store(args.dpositions, i + j, static_cast<T>(sums[j]));
                 }
               });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(embedding_forward, EmbeddingForward)
WEDGE_INSTANTIATE_CPU(embedding_backward, EmbeddingBackward)
WEDGE_INSTANTIATE_CPU(token_position_forward, TokenPositionForward)
WEDGE_INSTANTIATE_CPU(token_position_backward, TokenPositionBackward)
}  // namespace wedge
