// What a matrix product is made of: the product of two packed panels, and packing.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/vector.h"
#include "tensor/round_up.h"

namespace wedge::cpu {

// A tile of C stays in registers while panels of A and B go by: kTileRows x 2 vectors of sums, two vectors of
// B, one element of A in all lanes. 6 rows fill 16 registers, 12 most of 32.
#if defined(WEDGE_TILE_ROWS)
inline constexpr int kTileRows = WEDGE_TILE_ROWS;
#elif defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int kTileRows = 12;
#else
inline constexpr int kTileRows = 6;
#endif
// A build for any x86-64 chooses when it starts. (clang has no such clones of templates.)
#if defined(__x86_64__) && !defined(__AVX2__) && defined(__GNUC__) && !defined(__clang__) && \
    defined(__GLIBC__)
#define WEDGE_CLONES [[gnu::target_clones("arch=x86-64-v3", "default")]]
#else
#define WEDGE_CLONES
#endif
// Where sanitizers watch everything else: with every element of the innermost loop looked up, the tests would
// take twice as long.
#define WEDGE_UNCHECKED __attribute__((no_sanitize("address", "undefined")))

template <class T>
inline constexpr int kTileColumns = 2 * kLanes<T>;

// What a tile is of C: its first `rows` x `columns`, rows `ld` elements apart.
template <class T>
struct TileOfC {
  T* data;
  std::int64_t ld;
  int rows, columns;
  bool past_caches;  // where C is only written and its rows are aligned to vectors
};

// C = alpha a b + beta C: a is [depth][kTileRows], b is [depth][kTileColumns]. With beta 0, C is only
// written.
template <class T>
WEDGE_CLONES WEDGE_UNCHECKED void multiply_tile(std::int64_t depth, const T* a, const T* b, T alpha, T beta,
                                                const TileOfC<T>& c) {
  using V = typename Vector<T>::Type;
  constexpr int L = kLanes<T>;
  V sums[kTileRows][2] = {};
  T* const C = c.data;
  const std::int64_t ldc = c.ld;
  const int rows = c.rows, columns = c.columns;
  const bool whole = rows == kTileRows && columns == 2 * L, past_caches = c.past_caches && whole;
  for (int i = 0; i < rows && !past_caches; ++i) {
    __builtin_prefetch(C + i * ldc, 1);
    __builtin_prefetch(C + i * ldc + columns - 1, 1);
  }
#pragma GCC unroll 4
  for (std::int64_t k = 0; k < depth; ++k) {
    const V left = lanes(b + k * 2 * L).v, right = lanes(b + k * 2 * L + L).v;
#pragma GCC unroll 12
    for (int i = 0; i < kTileRows; ++i) {
      const T x = a[k * kTileRows + i];
      sums[i][0] += x * left;
      sums[i][1] += x * right;
    }
  }
  T edge[kTileRows * 2 * L];
  T* const to = whole ? C : edge;
  const std::int64_t ld = whole ? ldc : 2 * L;
  if (!whole && beta != T(0)) {
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < columns; ++j) edge[i * 2 * L + j] = C[i * ldc + j];
  }
  // Indices that the compiler knows, or the sums would not stay in registers.
#pragma GCC unroll 12
  for (int i = 0; i < kTileRows; ++i) {
    T* const row = to + i * ld;
    V left = alpha * sums[i][0], right = alpha * sums[i][1];
    if (beta != T(0)) {
      left += beta * lanes(row).v;
      right += beta * lanes(row + L).v;
    }
    if (past_caches) {
      stream(reinterpret_cast<V*>(row), left);
      stream(reinterpret_cast<V*>(row + L), right);
    } else {
      lanes(row).v = left;
      lanes(row + L).v = right;
    }
  }
  if (!whole)
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < columns; ++j) C[i * ldc + j] = edge[i * 2 * L + j];
}

// Transposes kLanes vectors: swaps what lies off the diagonal in blocks of half the size, then in those of a
// quarter, ...
template <int Size, class V, int... I>
[[gnu::always_inline]] inline void swap_blocks(V* rows, std::integer_sequence<int, I...>) {
  constexpr int L = sizeof...(I);
#pragma GCC unroll 16
  for (int r = 0; r < L; ++r) {
    if (r & Size) continue;
    const V above = rows[r], below = rows[r + Size];
    rows[r] = __builtin_shufflevector(above, below, ((I & Size) ? L + I - Size : I)...);
    rows[r + Size] = __builtin_shufflevector(above, below, ((I & Size) ? L + I : I + Size)...);
  }
  if constexpr (Size > 1) swap_blocks<Size / 2>(rows, std::integer_sequence<int, I...>());
}

// From a packed panel to the next, in elements: a line of cache more than it holds, or all would meet in the
// same sets. (pack_panels writes there.)
template <int R, class T>
constexpr std::int64_t panel_stride(std::int64_t depth) {
  return depth * R + 64 / static_cast<std::int64_t>(sizeof(T));
}

// Packs `depth` steps of `count` rows of A, or columns of B, as [panel][depth][R], with zeros where the last
// panel has less than R. Element (step k, row r) is in[r * ld + k] where `along_depth`, else in[k * ld + r].
template <int R, class T>
void pack_panels(const T* in, std::int64_t ld, bool along_depth, std::int64_t depth, std::int64_t count,
                 T* out) {
  constexpr int L = kLanes<T>;
  static_assert((round_up(R, L) - R) * sizeof(T) <= 64, "what is written behind a panel");
  const std::int64_t stride = panel_stride<R, T>(depth), whole = count / R, rest = count % R;
  if (!along_depth) {
    for (std::int64_t k = 0; k < depth; ++k)
      for (std::int64_t p = 0; p < whole; ++p) {
        const T* const from = in + k * ld + p * R;
        __builtin_prefetch(from + 2 * ld);
        std::memcpy(out + p * stride + k * R, from, R * sizeof(T));
      }
  } else {
    for (std::int64_t p = 0; p < whole; ++p) {
      const T* const from = in + p * R * ld;
      T* const to = out + p * stride;
      std::int64_t k = 0;
      // The last rows first: what their vectors write too much is written over, or is behind the panel.
      for (; k + L <= depth; k += L)
#pragma GCC unroll 8
        for (int first = (R - 1) / L * L; first >= 0; first -= L) {
          typename Vector<T>::Type rows[L] = {};
          const int n = R - first < L ? R - first : L;
#pragma GCC unroll 16
          for (int r = 0; r < n; ++r) {
            rows[r] = lanes(from + (first + r) * ld + k).v;
            __builtin_prefetch(from + (first + r + R) * ld + k);  // of the next panel
          }
          swap_blocks<L / 2>(rows, std::make_integer_sequence<int, L>());
#pragma GCC unroll 16
          for (int step = 0; step < L; ++step) lanes(to + (k + step) * R + first).v = rows[step];
        }
      for (; k < depth; ++k)
        for (int r = 0; r < R; ++r) to[k * R + r] = from[r * ld + k];
    }
  }
  if (rest == 0) return;
  const T* const from = in + whole * R * (along_depth ? ld : 1);
  T* const to = out + whole * stride;
  for (std::int64_t k = 0; k < depth; ++k)
    for (int r = 0; r < R; ++r) to[k * R + r] = r < rest ? from[along_depth ? r * ld + k : k * ld + r] : T(0);
}

// Tiles of vectors as the products of matmul.cpp take them. From kRows rows of A and kColumns columns of B a
// panel is packed, in blocks of at most kDepth steps of K, a multiple of kDepthUnit but for the last;
// kBlockPanels of A are multiplied with a panel of B before the next one's turn. kSharedBytes are packed at
// once of the side of C that all threads share, kOwnBytes a thread of the other.
template <class T>
struct VectorTile {
  using Value = T;
  using Packed = T;
  static constexpr int kRows = kTileRows, kColumns = kTileColumns<T>;
  static constexpr std::int64_t kDepthUnit = 8, kDepth = 256;  // a panel of B is 16 KB at 64 bytes a step
  static constexpr std::int64_t kBlockPanels = 32;             // 192 rows of 256 floats are 196 KB
  static constexpr std::int64_t kSharedBytes = 1 << 20, kOwnBytes = 1 << 20;
  static constexpr std::int64_t kElementBytes = sizeof(T);
  static constexpr bool kCanStream = cpu::kCanStream;

  static constexpr std::int64_t row_stride(std::int64_t depth) { return panel_stride<kRows, T>(depth); }
  static constexpr std::int64_t column_stride(std::int64_t depth) { return panel_stride<kColumns, T>(depth); }
  static void pack_rows(const T* in, std::int64_t ld, bool along_depth, std::int64_t depth,
                        std::int64_t count, T* out) {
    pack_panels<kRows>(in, ld, along_depth, depth, count, out);
  }
  static void pack_columns(const T* in, std::int64_t ld, bool along_depth, std::int64_t depth,
                           std::int64_t count, T* out) {
    pack_panels<kColumns>(in, ld, along_depth, depth, count, out);
  }
  static void multiply(std::int64_t depth, const T* a, const T* b, T alpha, T beta, const TileOfC<T>& c) {
    multiply_tile<T>(depth, a, b, alpha, beta, c);
  }
  // multiply() is called within one's life; then what went past the caches is there for other threads.
  struct Session {
    ~Session() { finish_streaming(); }
  };
};

// Σ x y, in four vectors of sums.
template <class T>
T dot(const T* x, const T* y, std::int64_t n) {
  constexpr int L = kLanes<T>;
  typename Vector<T>::Type sums[4] = {};
  std::int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L)
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sums[v] += lanes(x + i + v * L).v * lanes(y + i + v * L).v;
  for (; i + L <= n; i += L) sums[0] += lanes(x + i).v * lanes(y + i).v;
  const auto sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  T total = 0;
  for (int lane = 0; lane < L; ++lane) total += sum[lane];
  for (; i < n; ++i) total += x[i] * y[i];
  return total;
}

}  // namespace wedge::cpu
