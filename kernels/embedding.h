// Rows of a table, gathered by index, and the gradient scattered back.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

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
  Stat<T>* dweight;         // [V, D] = or += as dweight_add says
  bool dweight_add;
};

WEDGE_KERNEL(embedding_forward, EmbeddingForward)
WEDGE_KERNEL(embedding_backward, EmbeddingBackward)

}  // namespace wedge
