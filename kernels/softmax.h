// Softmax and log-softmax over the last dimension.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

// y = exp(x - m) / Σ exp(x - m), or x - m - log Σ exp(x - m) when log is set; m is the row's maximum.
template <class T>
struct SoftmaxForward {
  std::int64_t rows, n;
  bool log;
  const T* x;  // [rows, n]
  T* y;        // [rows, n] =
};

// softmax: dx (+)= y (dy - Σ dy y);  log-softmax: dx (+)= dy - exp(y) Σ dy
template <class T>
struct SoftmaxBackward {
  std::int64_t rows, n;
  bool log;
  const T* y;   // [rows, n]
  const T* dy;  // [rows, n]
  Sink<T> dx;   // [rows, n] (+)=
};

WEDGE_KERNEL(softmax_forward, SoftmaxForward)
WEDGE_KERNEL(softmax_backward, SoftmaxBackward)

}  // namespace wedge
