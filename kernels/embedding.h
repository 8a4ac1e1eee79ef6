// Rows of a table, gathered by index, and the gradient scattered back; and the sum of a token's and its
// position's row, with dropout. On a GPU there may be at most kMostIds ids that share a table.
#pragma once

#include <cstdint>

#include "kernels/dropout.h"
#include "kernels/exec.h"

namespace wedge {

inline constexpr std::int64_t kMostIds = std::int64_t{1} << 30;

// y[t] = weight[t · step + ids[t]], which must be a row of it. step is 0 for a table that all t share, n for
// picking one of n rows that each t has for itself.
template <class T>
struct EmbeddingForward {
  std::int64_t rows, V, D;
  std::int64_t step;
  const std::int32_t* ids;  // [rows]
  const T* weight;          // [V, D]
  T* y;                     // [rows, D] =
};

// dweight[v] (+)= Σ over t with t · step + ids[t] = v of dy[t], in the order of t: no atomics. Where step >
// 0, every ids[t] is less than step. On a GPU, sums of many rows are made of sums of pieces, which depend on
// ids alone.
template <class T>
struct EmbeddingBackward {
  std::int64_t rows, V, D;
  std::int64_t step;
  const std::int32_t* ids;  // [rows]
  const T* dy;              // [rows, D]
  Sink<Stat<T>> dweight;    // [V, D] (+)=
};

// y[b, l] = mask ∘ (tokens[ids[b, l]] + positions[l]), the sum and the product each rounded to T: what
// kernels for each of the three write.
template <class T>
struct TokenPositionForward {
  std::int64_t B, L, V, D;
  const std::int32_t* ids;  // [B, L]
  const T* tokens;          // [V, D]
  const T* positions;       // [L, D]
  DropoutMask mask;         // of the elements of y
  T* y;                     // [B, L, D] =
  BFloat16* rounded;        // [B, L, D] = y, or null; on a GPU
  // [B·L, 2] = the pairs (ids[t], t) in order, for backward, or null; on a GPU, where B·L is at most
  // kOrderedInForward.
  std::int32_t* order;
};
inline constexpr std::int64_t kOrderedInForward = 4096;

// With g = mask ∘ dy: dtokens[v] (+)= Σ over t with ids[t] = v of g[t] as in EmbeddingBackward, and
// dpositions[l] (+)= Σ over b of g[b, l], added in float64 and rounded once.
template <class T>
struct TokenPositionBackward {
  std::int64_t B, L, V, D;
  const std::int32_t* ids;    // [B, L]
  const std::int32_t* order;  // what forward made of them, or null
  const T* dy;                // [B, L, D]
  DropoutMask mask;
  Sink<Stat<T>> dtokens;     // [V, D] (+)=, or null
  Sink<Stat<T>> dpositions;  // [L, D] (+)=, or null. It shares nothing with dtokens.
};

WEDGE_KERNEL(embedding_forward, EmbeddingForward)
WEDGE_KERNEL(embedding_backward, EmbeddingBackward)
WEDGE_KERNEL(token_position_forward, TokenPositionForward)
WEDGE_KERNEL(token_position_backward, TokenPositionBackward)

}  // namespace wedge
