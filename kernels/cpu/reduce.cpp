#include "kernels/reduce.h"

#include <limits>

#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"

namespace wedge::cpu {
namespace {

// A long single row is cut into this many parts, whose sums are added in order: the split does not depend on
// threads.
constexpr std::int64_t kParts = 64;

template <class T>
double reduce_run(ReduceOp op, const T* x, std::int64_t n) {
  if (op == ReduceOp::max) {
    T best = x[0];
    for (std::int64_t k = 1; k < n; ++k) best = x[k] > best || x[k] != x[k] ? x[k] : best;
    return best;
  }
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t k = 0; k < n; ++k) sum += x[k];
  return sum;
}

template <class T>
void store(const Reduce<T>& args, std::int64_t at, double value) {
  T& y = args.y.data[at];
  y = static_cast<T>(args.y.add ? y + value : value);
}

template <class T>
void reduce_one_row(const Reduce<T>& args) {
  const std::int64_t part = ceil_div(args.n, kParts);
  double parts[kParts];
  const std::int64_t count = ceil_div(args.n, part);
  parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p)
      parts[p] = reduce_run(args.op, args.x + p * part, std::min(part, args.n - p * part));
  });
  store(args, 0, reduce_run(args.op, parts, count));
}

template <class T>
void reduce_last(const Reduce<T>& args) {
  if (args.outer == 1 && args.n > kElementGrain) return reduce_one_row(args);
  parallel_rows(args.outer, args.n, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end; ++o)
      store(args, o, reduce_run(args.op, args.x + o * args.n, args.n));
  });
}

// Columns: each thread owns a range of (outer, inner) columns and walks the rows, so neighbours share cache
// lines.
template <class T>
void reduce_columns(const Reduce<T>& args) {
  constexpr std::int64_t kColumns = 128;
  const std::int64_t per_outer = ceil_div(args.inner, kColumns);
  const std::int64_t grain =
      std::max<std::int64_t>(1, kElementGrain / std::max<std::int64_t>(1, args.n * kColumns));
  parallel_for(args.outer * per_outer, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t o = block / per_outer, first = block % per_outer * kColumns;
      const std::int64_t width = std::min(kColumns, args.inner - first);
      double acc[kColumns];
      std::fill_n(acc, width, args.op == ReduceOp::sum ? 0.0 : -std::numeric_limits<double>::infinity());
      for (std::int64_t k = 0; k < args.n; ++k) {
        const T* x = args.x + (o * args.n + k) * args.inner + first;
        if (args.op == ReduceOp::sum) {
          for (std::int64_t i = 0; i < width; ++i) acc[i] += x[i];
        } else {
          for (std::int64_t i = 0; i < width; ++i) acc[i] = x[i] > acc[i] || x[i] != x[i] ? x[i] : acc[i];
        }
      }
      for (std::int64_t i = 0; i < width; ++i) store(args, o * args.inner + first + i, acc[i]);
    }
  });
}

}  // namespace

template <class T>
void reduce(const Exec&, const Reduce<T>& args) {
  if (args.inner == 1) {
    reduce_last(args);
  } else {
    reduce_columns(args);
  }
}

template <class T>
void max_backward(const Exec&, const MaxBackward<T>& args) {
  parallel_rows(args.outer, args.n * args.inner, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end; ++o)
      for (std::int64_t i = 0; i < args.inner; ++i) {
        const std::int64_t at = o * args.inner + i, first = o * args.n * args.inner + i;
        std::int64_t ties = 0;
        for (std::int64_t k = 0; k < args.n; ++k) ties += args.x[first + k * args.inner] == args.y[at];
        const T share = args.dy[at] / static_cast<T>(ties);
        for (std::int64_t k = 0; k < args.n; ++k) {
          const std::int64_t x = first + k * args.inner;
          store(args.dx, x, args.x[x] == args.y[at] ? share : T(0));
        }
      }
  });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(reduce, Reduce)
WEDGE_INSTANTIATE_CPU(max_backward, MaxBackward)
}  // namespace wedge
