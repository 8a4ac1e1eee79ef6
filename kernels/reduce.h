// Reductions over one dimension.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

enum class ReduceOp { sum, max };

// y[o, i] (+)= reduce over k of x[o, k, i]; dense. Sums are accumulated in double, in a fixed order.
template <class T>
struct Reduce {
  ReduceOp op;
  std::int64_t outer, n, inner;
  const T* x;  // [outer, n, inner], n >= 1 for max
  Sink<T> y;   // [outer, inner] (+)=
};

// The gradient of a maximum: dx[o, k, i] (+)= dy[o, i] / ties where x[o, k, i] = y[o, i], 0 elsewhere; dense.
template <class T>
struct MaxBackward {
  std::int64_t outer, n, inner;
  const T* x;   // [outer, n, inner]
  const T* y;   // [outer, inner]: the maximum over n
  const T* dy;  // [outer, inner]
  Sink<T> dx;   // [outer, n, inner] (+)=
};

WEDGE_KERNEL(reduce, Reduce)
WEDGE_KERNEL(max_backward, MaxBackward)

}  // namespace wedge
