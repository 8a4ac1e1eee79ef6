// Dropout whose masks are a function of counters: recomputed in backward, never stored.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/exec.h"
#include "tensor/host_device.h"
#include "tensor/rng.h"

namespace wedge {

// Element i of place `site` is kept when word i mod 4 of philox(seed; i / 4, site | 2³¹, micro_step, step) is
// at least rate · 2³², and then scaled by 1 / (1 - rate). The high bit keeps these counters apart from those
// of class Rng.
struct DropoutMask {
  double rate = 0;                        // in [0, 1); 0: off
  std::uint32_t site = 0;                 // which dropout of the model
  const std::int64_t* counter = nullptr;  // [3] seed, step, micro_step; on the kernel's device

  // Whether there are masks; if not, every one is 1 and the counter is not read.
  bool active() const { return rate > 0 && counter != nullptr; }
};

// What a DropoutMask's counter points to.
struct MaskCounter {
  std::uint64_t seed = 0;
  std::uint32_t step = 0, micro_step = 0;

  WEDGE_HOST_DEVICE static MaskCounter load(const std::int64_t* counter) {
    return {static_cast<std::uint64_t>(counter[0]), static_cast<std::uint32_t>(counter[1]),
            static_cast<std::uint32_t>(counter[2])};
  }
};

// The rule above, for every device: made on the host, given to a kernel by value.
template <class T>
struct MaskRule {
  std::uint32_t site, drop_below;
  T keep_scale;

  explicit MaskRule(const DropoutMask& mask)
      : site(mask.site | 0x80000000u),
        drop_below(static_cast<std::uint32_t>(std::min(std::floor(mask.rate * 0x1p32), 0x1p32 - 1))),
        keep_scale(static_cast<T>(1.0 / (1.0 - mask.rate))) {}

  // Those of elements 4 block to 4 block + 3.
  WEDGE_HOST_DEVICE Philox4 words(const MaskCounter& at, std::uint32_t block) const {
    return philox(at.seed, block, site, at.micro_step, at.step);
  }
  // The mask of the element with this word: 0 or 1 / (1 - rate).
  WEDGE_HOST_DEVICE T mask_of(std::uint32_t word) const { return word >= drop_below ? keep_scale : T(0); }
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
  Sink<T> dx;   // [n] (+)=
  DropoutMask mask;
};

WEDGE_KERNEL(dropout_forward, DropoutForward)
WEDGE_KERNEL(dropout_backward, DropoutBackward)

}  // namespace wedge
