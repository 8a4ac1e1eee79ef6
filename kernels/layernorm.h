// Layer normalisation over the last dimension, with the residual connection and a dropout, before it or
// after, in the same pass. Ba, Kiros, Hinton 2016.
#pragma once

#include <cstdint>

#include "kernels/dropout.h"
#include "kernels/exec.h"

namespace wedge {

// s = residual + mask · x;  y = (s - mean) · rstd · weight + bias,  rstd = 1 / sqrt(var + eps), var biased.
// With masks_output the mask is y's instead of x's. Backward needs s, mean and rstd.
template <class T>
struct LayernormForward {
  std::int64_t rows, D;
  const T* x;         // [rows, D]
  const T* residual;  // [rows, D] or null
  DropoutMask mask;   // rate 0: none
  const T* weight;    // [D]
  const T* bias;      // [D]
  double eps;
  T* s;           // [rows, D] =, or null: s is x (no residual, no mask), or nobody will ask for gradients
  T* y;           // [rows, D] =
  Stat<T>* mean;  // [rows] =
  Stat<T>* rstd;  // [rows] =
  BFloat16* y_rounded = nullptr;  // CUDA: [rows, D] = y, or null
  bool masks_output = false;
};

// With x̂ = (s - mean) rstd and g = dy · weight:
//   ds = rstd (g - mean(g) - x̂ mean(g x̂));  dresidual (+)= ds;  dx (+)= mask · ds;  dweight (+)= Σ dy x̂;
//   dbias (+)= Σ dy
// With masks_output mask · dy stands for dy, and dx (+)= ds. Any of the four outputs may be null.
template <class T>
struct LayernormBackward {
  std::int64_t rows, D;
  const T* dy;          // [rows, D]
  const T* s;           // [rows, D]
  const Stat<T>* mean;  // [rows]
  const Stat<T>* rstd;  // [rows]
  const T* weight;      // [D]
  DropoutMask mask;
  Sink<T> dx, dresidual;           // [rows, D] (+)=
  Sink<Stat<T>> dweight, dbias;    // [D] (+)=
  BFloat16* dx_rounded = nullptr;  // CUDA: [rows, D] = what dx holds then, or would, if dx is null; or null
  bool masks_output = false;
  // CUDA: [layernorm_dx_pieces(args), D] = sums over parts of the rows of what dx holds then, before it is
  // rounded to T; or null
  float* dx_sums = nullptr;
};

namespace cu {
// How many such sums layernorm_backward can make of dx; 0: none, with these sizes and pointers.
template <class T>
std::int64_t layernorm_dx_pieces(const LayernormBackward<T>& args);
}  // namespace cu

WEDGE_KERNEL(layernorm_forward, LayernormForward)
WEDGE_KERNEL(layernorm_backward, LayernormBackward)

}  // namespace wedge
