// From rows of logits to their losses and rows of G (linear_cross_entropy_rows.cu).
#pragma once

#include "kernels/exec.h"

namespace wedge::cu {

template <class In>
struct ChunkOfRows {
  std::int64_t rows, V, stride;  // elements of a row, and between rows: padded_classes(V)
  In* logits;                    // [rows, stride]: logits on entry, up to V; G on return, or undefined
  bool gradients;                // whether G is wanted
  const std::int32_t* targets;   // [rows]
  double* losses;                // likewise, =
  float total_rows;
};

// On the stream of `exec`; In is float or BFloat16.
template <class In>
void linear_cross_entropy_rows(const Exec& exec, const ChunkOfRows<In>& args);

}  // namespace wedge::cu
