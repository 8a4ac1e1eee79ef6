// The Grassmann mixer's gate, around its matrix products.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

// alpha = sigmoid(u + bias);  y = alpha h + (1 - alpha) g
template <class T>
struct GateBlendForward {
  std::int64_t rows, D;
  const T* h;     // [rows, D]
  const T* g;     // [rows, D]
  const T* bias;  // [D] or null
  T* alpha;       // [rows, D]: u on entry, alpha on return
  T* y;           // [rows, D] =
};

// du = dy (h - g) alpha (1 - alpha);  dh (+)= dy alpha;  dg (+)= dy (1 - alpha);  dbias (+)= Σ du
// du is always written; dh, dg and dbias may be null.
template <class T>
struct GateBlendBackward {
  std::int64_t rows, D;
  const T* h;      // [rows, D]
  const T* g;      // [rows, D]
  const T* alpha;  // [rows, D]
  const T* dy;     // [rows, D]
  T* du;           // [rows, D] =
  T* dh;           // [rows, D]
  T* dg;           // [rows, D]
  Stat<T>* dbias;  // [D]
  bool dh_add, dg_add, dbias_add;
  BFloat16* du_rounded = nullptr;  // CUDA: [rows, D] or null, du in bfloat16 too
};

WEDGE_KERNEL(gate_blend_forward, GateBlendForward)
WEDGE_KERNEL(gate_blend_backward, GateBlendBackward)

}  // namespace wedge
