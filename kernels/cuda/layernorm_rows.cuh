// What the kernels of layer normalisation share, and those for rows that stay in a warp's registers
// (layernorm_rows.cu).
#pragma once

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/dropout_mask.cuh"
#include "kernels/layernorm.h"

namespace wedge::cu::norm {

inline constexpr int kThreads = 256;
inline constexpr std::int64_t kWarpWidth = 1024;  // the widest row that a warp takes alone

// p (+)= x; returns what p holds then, before it is rounded to T.
template <int kWidth, class T>
__device__ Floats<kWidth> store(T* p, Floats<kWidth> x, bool add = false) {
  if (add) {
    const Floats<kWidth> old = load_floats<kWidth>(p);
    for (int k = 0; k < kWidth; ++k) x.v[k] += old.v[k];
  }
  store_floats(p, x);
  return x;
}

// Whether four elements can be read and written at a time.
template <class T>
bool four_forward(const LayernormForward<T>& a) {
  return a.D % 4 == 0 && all_aligned(4 * sizeof(T), a.x, a.residual, a.weight, a.bias, a.s, a.y);
}
template <class T>
bool four_backward(const LayernormBackward<T>& a) {
  return a.D % 4 == 0 && all_aligned(4 * sizeof(T), a.dy, a.s, a.weight, a.dx.data, a.dresidual.data);
}

// Do the call, totals and all, and return true where a row is at most kWarpWidth wide and sizes and pointers
// allow four elements at a time; else nothing.
template <class T>
bool forward_in_rows(const Exec& exec, const LayernormForward<T>& args);
template <class T>
bool backward_in_rows(const Exec& exec, const LayernormBackward<T>& args);

// dweight and dbias from their partial sums.
template <class T>
void add_up_parameters(const Exec& exec, const LayernormBackward<T>& a, const ColumnPartials<2>& sums) {
  sums.add_up(exec, "layernorm_totals", a.dweight, a.dbias);
}

}  // namespace wedge::cu::norm
