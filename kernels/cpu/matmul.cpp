// C is made in tiles that stay in registers (tile.h, amx_tile.h). What they are made of is packed first, so
// that the innermost loop reads A and B one after another: a panel of B stays in L1, a block of A's panels in
// L2, what else is packed in L2 or L3 (Goto and van de Geijn, "Anatomy of High-Performance Matrix
// Multiplication", 2008). The order in which an element's terms are added depends on the sizes alone, and for
// up to kFewRows rows on whether B is transposed; never on the threads, so neither do the bits.
#include "kernels/matmul.h"

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/amx_tile.h"
#include "kernels/cpu/flush_denormals.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/tile.h"
#include "tensor/round_up.h"

namespace wedge::cpu {
namespace {

constexpr std::int64_t kPastCaches = 1 << 25;  // bytes of C that leave the caches before they are read
constexpr std::int64_t kFewRows = 4;           // that do without packing
constexpr std::int64_t kGrain = 1 << 18;       // multiplications that are worth a second thread

// The size of equal parts of n, multiples of `unit`, of at most about `most`.
std::int64_t part_of(std::int64_t n, std::int64_t most, std::int64_t unit) {
  const std::int64_t parts = ceil_div(n, std::max(most, unit));
  return round_up(ceil_div(n, parts), unit);
}

// One operand as rows of A, or columns of B, R of them a panel.
template <class Tile, bool IsRows>
struct Panels {
  using T = typename Tile::Value;
  using Packed = typename Tile::Packed;
  static constexpr int R = IsRows ? Tile::kRows : Tile::kColumns;
  const T* data;
  const BFloat16* rounded;
  std::int64_t ld;
  bool along_depth;  // the steps of K lie side by side

  explicit Panels(const GemmOperand<T>& x)
      : data(x.data), rounded(x.rounded), ld(x.ld), along_depth(x.transposed != IsRows) {}
  static constexpr std::int64_t stride(std::int64_t depth) {
    return IsRows ? Tile::row_stride(depth) : Tile::column_stride(depth);
  }
  // Packs panels [begin, end) of `rows` rows from `row` on: steps [k0, k1) in blocks of `depth`, which
  // `block` elements of `packed` are for.
  void pack(std::int64_t row, std::int64_t rows, std::int64_t k0, std::int64_t k1, std::int64_t depth,
            std::int64_t block, std::int64_t begin, std::int64_t end, Packed* packed) const {
    // In the order in which they lie in memory.
    const std::int64_t together = along_depth ? 1 : std::max<std::int64_t>(1, end - begin);
    for (std::int64_t p = begin; p < end; p += together)
      for (std::int64_t k = k0; k < k1; k += depth) {
        const std::int64_t steps = std::min(depth, k1 - k),
                           count = std::min((p + together) * R, rows) - p * R;
        Packed* const to = packed + (k - k0) / depth * block + p * stride(steps);
        const std::int64_t r = row + p * R, at = along_depth ? r * ld + k : k * ld + r;
        const auto pack_from = [&](const auto* in) {
          if constexpr (IsRows)
            Tile::pack_rows(in + at, ld, along_depth, steps, count, to);
          else
            Tile::pack_columns(in + at, ld, along_depth, steps, count, to);
        };
        if constexpr (std::is_same_v<Tile, AmxTile<1>>)
          if (rounded != nullptr) {
            pack_from(rounded);
            continue;
          }
        pack_from(data);
      }
  }
};

// How a product is cut. `rows` x `columns` of C and `steps` of K are packed at once, the steps in blocks of
// `depth`. A thread packs its own part of C's longer side (the rows if `by_rows`), which then comes from its
// own caches; the other side is packed by all of them together.
template <class Tile>
struct Cut {
  bool by_rows;
  std::int64_t threads, depth, steps, rows, columns;

  Cut(std::int64_t M, std::int64_t N, std::int64_t K)
      : by_rows(M >= N), threads(omp_in_parallel() ? 1 : omp_get_max_threads()) {
    constexpr std::int64_t kShared = Tile::kSharedBytes / Tile::kElementBytes,
                           kOwn = Tile::kOwnBytes / Tile::kElementBytes;
    const std::int64_t all_rows = round_up(M, Tile::kRows), all_columns = round_up(N, Tile::kColumns);
    depth = part_of(K, Tile::kDepth, Tile::kDepthUnit);
    steps = part_of(K, kShared / (by_rows ? all_columns : all_rows), depth);
    // In equal parts and whole panels, of the threads' own side as many for each; no more than there are.
    const auto at_once = [&](std::int64_t size, std::int64_t panel, bool own) {
      return std::min(own ? part_of(size, threads * kOwn / steps, threads * panel)
                          : part_of(size, kShared / steps, panel),
                      round_up(size, panel));
    };
    rows = at_once(M, Tile::kRows, by_rows);
    columns = at_once(N, Tile::kColumns, !by_rows);
  }
  // Elements of a packed block.
  std::int64_t a_block() const { return rows / Tile::kRows * Tile::row_stride(depth); }
  std::int64_t b_block() const { return columns / Tile::kColumns * Tile::column_stride(depth); }
  std::int64_t blocks() const { return steps / depth; }
};

// One product, piece by piece: what a piece is made of is packed, then multiplied.
template <class Tile, class Out = typename Tile::Value>
class Product {
  using T = typename Tile::Value;
  using Packed = typename Tile::Packed;
  static constexpr int MR = Tile::kRows, NR = Tile::kColumns;

 public:
  explicit Product(const Gemm<T, Out>& g) : g_(g), a_(g.A), b_(g.B), cut_(g.M, g.N, g.K) {}

  void run() const {
    const std::int64_t shared_size = cut_.by_rows ? g_.N : g_.M, own_size = cut_.by_rows ? g_.M : g_.N;
    const std::int64_t shared_step = cut_.by_rows ? cut_.columns : cut_.rows,
                       own_step = cut_.by_rows ? cut_.rows : cut_.columns;
    const bool all_own = own_size <= own_step && g_.K <= cut_.steps;
    for (std::int64_t shared = 0; shared < shared_size; shared += shared_step)
      for (std::int64_t k = 0; k < g_.K; k += cut_.steps)
        for (std::int64_t own = 0; own < own_size; own += own_step) {
          // What was packed before is still there where it is the same.
          const bool pack_own = shared == 0 || !all_own, pack_shared = own == 0;
          const Piece piece = piece_at(cut_.by_rows ? own : shared, cut_.by_rows ? shared : own, k);
          pack(piece, cut_.by_rows ? pack_own : pack_shared, cut_.by_rows ? pack_shared : pack_own);
          multiply(piece);
        }
  }

 private:
  // Rows [m, m + rows), columns [n, n + columns), steps [k0, k1).
  struct Piece {
    std::int64_t m, rows, n, columns, k0, k1;
    std::int64_t a_panels = ceil_div(rows, MR), b_panels = ceil_div(columns, NR);
  };
  Piece piece_at(std::int64_t m, std::int64_t n, std::int64_t k0) const {
    return {m,  std::min(cut_.rows, g_.M - m),  n, std::min(cut_.columns, g_.N - n),
            k0, std::min(g_.K, k0 + cut_.steps)};
  }

  void pack(const Piece& p, bool rows, bool columns) const {
    const std::int64_t a_panels = rows ? p.a_panels : 0, b_panels = columns ? p.b_panels : 0;
    const std::int64_t elements = (a_panels * MR + b_panels * NR) * (p.k1 - p.k0);
    const std::int64_t parts = std::min(cut_.threads, ceil_div(elements, kElementGrain));
    parallel_for(parts, 1, [&](std::int64_t begin, std::int64_t end) {
      const FlushDenormals flush;
      a_.pack(p.m, p.rows, p.k0, p.k1, cut_.depth, cut_.a_block(), a_panels * begin / parts,
              a_panels * end / parts, packed_a_.data());
      b_.pack(p.n, p.columns, p.k0, p.k1, cut_.depth, cut_.b_block(), b_panels * begin / parts,
              b_panels * end / parts, packed_b_.data());
    });
  }

  // Tiles are shared out evenly, along the longer side first. A block of a thread's panels of A meets one
  // panel of B after another.
  void multiply(const Piece& p) const {
    const std::int64_t across = cut_.by_rows ? p.b_panels : p.a_panels, tile = MR * NR * (p.k1 - p.k0);
    parallel_for(p.a_panels * p.b_panels, ceil_div(kGrain, tile), [&](std::int64_t begin, std::int64_t end) {
      const FlushDenormals flush;
      const typename Tile::Session session;
      const std::int64_t first = begin / across, last = ceil_div(end, across);
      const std::int64_t i0 = cut_.by_rows ? first : 0, i1 = cut_.by_rows ? last : p.a_panels;
      const std::int64_t j0 = cut_.by_rows ? 0 : first, j1 = cut_.by_rows ? p.b_panels : last;
      const std::int64_t height = part_of(i1 - i0, Tile::kBlockPanels, 1);
      for (std::int64_t top = i0; top < i1; top += height)
        for (std::int64_t k = p.k0; k < p.k1; k += cut_.depth)
          for (std::int64_t j = j0; j < j1; ++j)
            for (std::int64_t i = top; i < std::min(top + height, i1); ++i) {
              const std::int64_t t = cut_.by_rows ? i * across + j : j * across + i;
              if (begin <= t && t < end) multiply(p, i, j, k);
            }
    });
  }

  // One block of steps of the tile where panel i of A meets panel j of B.
  void multiply(const Piece& p, std::int64_t i, std::int64_t j, std::int64_t k) const {
    const std::int64_t steps = std::min(cut_.depth, p.k1 - k), block = (k - p.k0) / cut_.depth;
    const Packed* const a = packed_a_.data() + block * cut_.a_block() + i * Tile::row_stride(steps);
    const Packed* const b = packed_b_.data() + block * cut_.b_block() + j * Tile::column_stride(steps);
    const TileOfC<Out> c{g_.C.data + (p.m + i * MR) * g_.C.ld + p.n + j * NR, g_.C.ld,
                         static_cast<int>(std::min<std::int64_t>(MR, p.rows - i * MR)),
                         static_cast<int>(std::min<std::int64_t>(NR, p.columns - j * NR)), past_caches_};
    Tile::multiply(steps, a, b, g_.alpha, k == 0 ? g_.beta : T(1), c);
  }

  const Gemm<T, Out>& g_;
  const Panels<Tile, true> a_;
  const Panels<Tile, false> b_;
  const Cut<Tile> cut_;
  const Scratch<Packed> packed_a_{cut_.blocks() * cut_.a_block()}, packed_b_{cut_.blocks() * cut_.b_block()};
  // Every element is written once, in whole lines of cache: they need not be read for that.
  const bool past_caches_ = Tile::kCanStream && g_.beta == T(0) && g_.K <= cut_.depth &&
                            g_.M * g_.N * static_cast<std::int64_t>(sizeof(Out)) >= kPastCaches &&
                            reinterpret_cast<std::uintptr_t>(g_.C.data) % 64 == 0 &&
                            g_.C.ld * sizeof(Out) % 64 == 0;
};

// A few rows, as in decoding, meet every element of B few times: packing would cost more than the product.
template <class T>
void few_rows(const Gemm<T>& g) {
  const T *const A = g.A.data, *const B = g.B.data;
  const std::int64_t lda = g.A.ld, ldb = g.B.ld;
  const std::int64_t step = g.A.transposed ? lda : 1, next = g.A.transposed ? 1 : lda;
  const auto columns = [&](std::int64_t begin, std::int64_t end) {
    const FlushDenormals flush;
    for (std::int64_t i = 0; i < g.M; ++i) {
      T* const c = g.C.data + i * g.C.ld;
      for (std::int64_t j = begin; j < end; ++j) c[j] = g.beta == T(0) ? T(0) : g.beta * c[j];
      const auto x = [&](std::int64_t k) { return g.alpha * A[i * next + k * step]; };
      std::int64_t k = 0;
      for (; k + 4 <= g.K; k += 4) {  // c is read and written once for four steps
        const T x0 = x(k), x1 = x(k + 1), x2 = x(k + 2), x3 = x(k + 3);
        const T *const b0 = B + k * ldb, *const b1 = b0 + ldb, *const b2 = b1 + ldb, *const b3 = b2 + ldb;
#pragma omp simd
        for (std::int64_t j = begin; j < end; ++j)
          c[j] += (x0 * b0[j] + x1 * b1[j]) + (x2 * b2[j] + x3 * b3[j]);
      }
      for (; k < g.K; ++k) {
        const T x0 = x(k);
        const T* const b0 = B + k * ldb;
#pragma omp simd
        for (std::int64_t j = begin; j < end; ++j) c[j] += x0 * b0[j];
      }
    }
  };
  const auto dots = [&](std::int64_t begin, std::int64_t end) {
    const FlushDenormals flush;
    for (std::int64_t j = begin; j < end; ++j)
      for (std::int64_t i = 0; i < g.M; ++i) {
        T& c = g.C.data[i * g.C.ld + j];
        c = g.alpha * dot(A + i * lda, B + j * ldb, g.K) + (g.beta == T(0) ? T(0) : g.beta * c);
      }
  };
  const std::int64_t grain = ceil_div(kElementGrain, g.M * std::max<std::int64_t>(1, g.K));
  if (g.B.transposed && g.K > 0)  // with no steps, B need not be anywhere
    parallel_for(g.N, grain, dots);
  else
    parallel_for(g.N, ceil_div(grain, kLanes<T>) * kLanes<T>, columns);
}

template <class T>
void one(const Exec& exec, const Gemm<T>& g) {
  const bool few = g.M <= kFewRows && !(g.A.transposed && g.B.transposed);
  if (few || g.K == 0) return few_rows(g);
  if constexpr (std::is_same_v<T, float>) {
    if (rounds_factors(exec, g.M, g.N, g.K)) return Product<AmxTile<1>>(g).run();
    if (AmxTile<3>::pays(g.M, g.N, g.K) && has_amx()) return Product<AmxTile<3>>(g).run();
  }
  Product<VectorTile<T>>(g).run();
}

}  // namespace

bool rounds_factors(const Exec& exec, std::int64_t M, std::int64_t N, std::int64_t K) {
  return exec.bf16_products_on_cpu && K > 0 && AmxTile<1>::pays(M, N, K) && has_amx();
}
bool rounds_products(const Exec& exec, std::int64_t M, std::int64_t N, std::int64_t K) {
  return rounds_factors(exec, M, N, K) && K <= AmxTile<1>::kDepth;
}
void rounded_gemm(const Gemm<float, BFloat16>& g) {
  Product<AmxTile<1>, BFloat16>(g).run();
}

template <class T>
void gemm(const Exec& exec, const Gemm<T>& g) {
  if (g.M == 0 || g.N == 0 || g.batches == 0) return;
  if (g.batches == 1) return one(exec, g);
  const std::int64_t flops = std::max<std::int64_t>(1, g.M * g.N * g.K);
  parallel_for(g.batches, std::max<std::int64_t>(1, 4 * kElementGrain / flops),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   Gemm<T> at = g;
                   at.A = g.A.offset_by(i * g.A.stride);
                   at.B = g.B.offset_by(i * g.B.stride);
                   at.C.data += i * g.C.stride;
                   one(exec, at);
                 }
               });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(gemm, Gemm)
}  // namespace wedge
