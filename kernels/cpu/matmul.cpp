// C is made in tiles that stay in registers (tile.h). What they are made of is packed first, so that the
// innermost loop reads A and B one after another: a panel of B stays in L1, a block of A's panels in L2, what
// is packed of B in L3 (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008). In
// which order an element's sum is added never depends on the threads, so neither do the bits: on K, and for
// up to kFewRows rows on how B lies.
#include "kernels/matmul.h"

#include <algorithm>

#include "kernels/cpu/flush_denormals.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tile.h"

namespace wedge::cpu {
namespace {

constexpr std::int64_t kDepth = 256;            // of K: a panel of B is 16 KB at 64 bytes a step
constexpr std::int64_t kBlockPanels = 32;       // of A: 192 rows of 256 floats are 196 KB
constexpr std::int64_t kPackedBytes = 1 << 20;  // of B, and twice that of A
constexpr std::int64_t kPastCaches = 1 << 25;   // bytes of C that leave the caches before they are read
constexpr std::int64_t kFewRows = 4;            // that do without packing
constexpr std::int64_t kGrain = 1 << 18;        // multiplications that are worth a second thread

constexpr std::int64_t ceil_div(std::int64_t n, std::int64_t by) {
  return (n + by - 1) / by;
}
// The size of equal parts of n, multiples of `unit`, of at most about `most`.
std::int64_t part_of(std::int64_t n, std::int64_t most, std::int64_t unit) {
  const std::int64_t parts = ceil_div(n, std::max(most, unit));
  return ceil_div(ceil_div(n, parts), unit) * unit;
}

// One operand as rows of A, or columns of B, R of them a panel.
template <int R, class T>
struct Operand {
  const T* data;
  std::int64_t ld;
  bool along_depth;  // the steps of K lie side by side

  const T* at(std::int64_t row, std::int64_t k) const {
    return data + (along_depth ? row * ld + k : k * ld + row);
  }
  // Packs panels [begin, end) of `rows` rows from `row` on: steps [k0, k1) in blocks of `depth`, which
  // `block` elements of `packed` are for.
  void pack(std::int64_t row, std::int64_t rows, std::int64_t k0, std::int64_t k1, std::int64_t depth,
            std::int64_t block, std::int64_t begin, std::int64_t end, T* packed) const {
    // In the order in which they lie in memory.
    const std::int64_t together = along_depth ? 1 : std::max<std::int64_t>(1, end - begin);
    for (std::int64_t p = begin; p < end; p += together)
      for (std::int64_t k = k0; k < k1; k += depth) {
        const std::int64_t steps = std::min(depth, k1 - k);
        pack_panels<R>(at(row + p * R, k), ld, along_depth, steps, std::min((p + together) * R, rows) - p * R,
                       packed + (k - k0) / depth * block + p * panel_stride<R, T>(steps));
      }
  }
};

template <class T>
void product(const Gemm<T>& g, const T* A, const T* B, T* C) {
  constexpr int MR = kTileRows, NR = kTileColumns<T>;
  constexpr std::int64_t capacity = kPackedBytes / static_cast<std::int64_t>(sizeof(T));
  const Operand<MR, T> a{A, g.lda, !g.trans_a};
  const Operand<NR, T> b{B, g.ldb, g.trans_b};
  // Packed at once: `columns_at_once` of B and `rows_at_once` of A, in blocks of `depth` steps.
  const std::int64_t depth = part_of(g.K, kDepth, 8);
  const std::int64_t depth_at_once = part_of(g.K, capacity / part_of(g.N, g.N, NR), depth);
  const std::int64_t columns_at_once = part_of(g.N, capacity / depth_at_once, NR);
  const std::int64_t rows_at_once = part_of(g.M, 2 * capacity / depth_at_once, MR);
  const std::int64_t a_block = rows_at_once / MR * panel_stride<MR, T>(depth),
                     b_block = columns_at_once / NR * panel_stride<NR, T>(depth);
  // Every element is written once, in whole lines of cache: they need not be read for that.
  const bool past_caches = kCanStream && g.beta == T(0) && g.K <= depth &&
                           g.M * g.N * sizeof(T) >= kPastCaches &&
                           reinterpret_cast<std::uintptr_t>(C) % 64 == 0 && g.ldc * sizeof(T) % 64 == 0;
  const Scratch<T> packed_a(depth_at_once / depth * a_block), packed_b(depth_at_once / depth * b_block);
  for (std::int64_t n = 0; n < g.N; n += columns_at_once)
    for (std::int64_t k0 = 0; k0 < g.K; k0 += depth_at_once)
      for (std::int64_t m = 0; m < g.M; m += rows_at_once) {
        const std::int64_t columns = std::min(columns_at_once, g.N - n),
                           rows = std::min(rows_at_once, g.M - m);
        const std::int64_t a_panels = ceil_div(rows, MR), b_panels = ceil_div(columns, NR);
        const std::int64_t k1 = std::min(g.K, k0 + depth_at_once);
        // Every thread packs its part of both: panels of B hold more than A's. What was packed of A is still
        // there where it is all of it.
        const std::int64_t a_to_pack = n > 0 && g.M <= rows && g.K <= depth_at_once ? 0 : a_panels;
        const std::int64_t b_to_pack = m == 0 ? b_panels : 0;
        const std::int64_t elements = (a_to_pack * MR + b_to_pack * NR) * (k1 - k0);
        const std::int64_t parts =
            std::min<std::int64_t>(omp_get_max_threads(), ceil_div(elements, kElementGrain));
        parallel_for(parts, 1, [&](std::int64_t begin, std::int64_t end) {
          a.pack(m, rows, k0, k1, depth, a_block, a_to_pack * begin / parts, a_to_pack * end / parts,
                 packed_a.data());
          b.pack(n, columns, k0, k1, depth, b_block, b_to_pack * begin / parts, b_to_pack * end / parts,
                 packed_b.data());
        });
        // Tiles are shared out evenly, in the order in which a block of A's panels meets one panel of B after
        // another.
        const std::int64_t blocks = ceil_div(a_panels, kBlockPanels), tile = MR * NR * (k1 - k0);
        parallel_for(a_panels * b_panels, ceil_div(kGrain, tile), [&](std::int64_t begin, std::int64_t end) {
          const FlushDenormals flush;
          for (std::int64_t block = 0; block < blocks; ++block) {
            const std::int64_t top = a_panels * block / blocks,
                               height = a_panels * (block + 1) / blocks - top,
                               first = std::max<std::int64_t>(0, begin - top * b_panels),
                               last = std::min(height * b_panels, end - top * b_panels);
            for (std::int64_t k = k0; k < k1 && first < last; k += depth) {
              const std::int64_t steps = std::min(depth, k1 - k);
              const T* const left = packed_a.data() + (k - k0) / depth * a_block;
              const T* const right = packed_b.data() + (k - k0) / depth * b_block;
              for (std::int64_t t = first; t < last; ++t) {
                const std::int64_t i = top + t % height, j = t / height;
                multiply_tile<T>(steps, left + i * panel_stride<MR, T>(steps),
                                 right + j * panel_stride<NR, T>(steps), g.alpha, k == 0 ? g.beta : T(1),
                                 C + (m + i * MR) * g.ldc + n + j * NR, g.ldc,
                                 static_cast<int>(std::min<std::int64_t>(MR, rows - i * MR)),
                                 static_cast<int>(std::min<std::int64_t>(NR, columns - j * NR)), past_caches);
              }
            }
          }
          if (past_caches) finish_streaming();
        });
      }
}

// A few rows, as in decoding, meet every element of B few times: packing would cost more than the product.
template <class T>
void few_rows(const Gemm<T>& g, const T* A, const T* B, T* C) {
  const std::int64_t step = g.trans_a ? g.lda : 1, next = g.trans_a ? 1 : g.lda;
  const auto columns = [&](std::int64_t begin, std::int64_t end) {
    const FlushDenormals flush;
    for (std::int64_t i = 0; i < g.M; ++i) {
      T* const c = C + i * g.ldc;
      for (std::int64_t j = begin; j < end; ++j) c[j] = g.beta == T(0) ? T(0) : g.beta * c[j];
      const auto x = [&](std::int64_t k) { return g.alpha * A[i * next + k * step]; };
      std::int64_t k = 0;
      for (; k + 4 <= g.K; k += 4) {  // c is read and written once for four steps
        const T x0 = x(k), x1 = x(k + 1), x2 = x(k + 2), x3 = x(k + 3);
        const T *const b0 = B + k * g.ldb, *const b1 = b0 + g.ldb, *const b2 = b1 + g.ldb,
                       *const b3 = b2 + g.ldb;
#pragma omp simd
        for (std::int64_t j = begin; j < end; ++j)
          c[j] += (x0 * b0[j] + x1 * b1[j]) + (x2 * b2[j] + x3 * b3[j]);
      }
      for (; k < g.K; ++k) {
        const T x0 = x(k);
        const T* const b0 = B + k * g.ldb;
#pragma omp simd
        for (std::int64_t j = begin; j < end; ++j) c[j] += x0 * b0[j];
      }
    }
  };
  const auto dots = [&](std::int64_t begin, std::int64_t end) {
    const FlushDenormals flush;
    for (std::int64_t j = begin; j < end; ++j)
      for (std::int64_t i = 0; i < g.M; ++i) {
        T& c = C[i * g.ldc + j];
        c = g.alpha * dot(A + i * g.lda, B + j * g.ldb, g.K) + (g.beta == T(0) ? T(0) : g.beta * c);
      }
  };
  const std::int64_t grain = ceil_div(kElementGrain, g.M * std::max<std::int64_t>(1, g.K));
  if (g.trans_b && g.K > 0)  // with no steps, B need not be anywhere
    parallel_for(g.N, grain, dots);
  else
    parallel_for(g.N, ceil_div(grain, kLanes<T>) * kLanes<T>, columns);
}

template <class T>
void one(const Gemm<T>& g, const T* A, const T* B, T* C) {
  const bool few = g.M <= kFewRows && !(g.trans_a && g.trans_b);
  if (few || g.K == 0) return few_rows(g, A, B, C);
  product(g, A, B, C);
}

}  // namespace

template <class T>
void gemm(const Exec&, const Gemm<T>& g) {
  if (g.M == 0 || g.N == 0 || g.batches == 0) return;
  if (g.batches == 1) return one(g, g.A, g.B, g.C);
  const std::int64_t flops = std::max<std::int64_t>(1, g.M * g.N * g.K);
  parallel_for(g.batches, std::max<std::int64_t>(1, 4 * kElementGrain / flops),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i)
                   one(g, g.A + i * g.stride_a, g.B + i * g.stride_b, g.C + i * g.stride_c);
               });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(gemm, Gemm)
}  // namespace wedge
