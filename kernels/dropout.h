// Dropout whose masks are a function of counters: recomputed in backward, never stored.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

// Element i of place `site` is kept when word i mod 4 of philox(seed; i / 4, site | 2³¹, micro_step, step) is
// at least rate · 2³², and then scaled by 1 / (1 - rate). The high bit keeps these counters apart from those
// of class Rng.
struct DropoutMask {
  double rate = 0;                        // in [0, 1); 0: off
  std::uint32_t site = 0;                 // which dropout of the model
  const std::int64_t* counter = nullptr;  // [3] seed, step, micro_step; on the kernel's device
};

// y[i] = residual[i] + mask_i · x[i]; dense. The residual may be null, and y may be x.
template <class T>
struct DropoutForward {
  std::int64_t n;
  const T* x;         // [n]
  const T* residual;  // [n] or null
  T* y;               // [n] =
  DropoutMask mask;
};

// dx[i] (+)= mask_i · dy[i]
template <class T>
struct DropoutBackward {
  std::int64_t n;
  const T* dy;  // [n]
  T* dx;        // [n] = or += as dx_add says
  bool dx_add;
  DropoutMask mask;
};

WEDGE_KERNEL(dropout_forward, DropoutForward)
WEDGE_KERNEL(dropout_backward, DropoutBackward)

}  // namespace wedge
