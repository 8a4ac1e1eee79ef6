// Elementwise functions of one and of two operands.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

enum class UnaryOp { neg, exp, log, sqrt, square, tanh, sigmoid, relu, gelu };
enum class BinaryOp { add, sub, mul, div };

inline constexpr int kMaxRank = 8;

// y[i] = f(x[i]); dense.
template <class T>
struct UnaryForward {
  UnaryOp op;
  std::int64_t n;
  const T* x;  // [n]
  T* y;        // [n] =
};

// dx[i] (+)= dy[i] · f'(x[i]), where f' may be computed from y = f(x).
template <class T>
struct UnaryBackward {
  UnaryOp op;
  std::int64_t n;
  const T* x;   // [n]
  const T* y;   // [n]
  const T* dy;  // [n]
  Sink<T> dx;   // [n] (+)=
};

// y = a op b; y is dense with the sizes given, a and b are read through strides (0 where broadcast).
template <class T>
struct Binary {
  BinaryOp op;
  int rank;
  std::int64_t sizes[kMaxRank];
  std::int64_t a_strides[kMaxRank], b_strides[kMaxRank];
  const T* a;
  const T* b;
  T* y;  // =
};

// y[i] (+)= alpha · factor · x[i]; dense. The factor is on the kernel's device, or null for 1.
template <class T>
struct Axpy {
  std::int64_t n;
  T alpha;
  const T* factor;
  const T* x;  // [n]
  Sink<T> y;   // [n] (+)=
};

WEDGE_KERNEL(unary_forward, UnaryForward)
WEDGE_KERNEL(unary_backward, UnaryBackward)
WEDGE_KERNEL(binary, Binary)
WEDGE_KERNEL(axpy, Axpy)

}  // namespace wedge
