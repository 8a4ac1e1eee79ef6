// Dropout masks in a kernel: four neighbours that start at a multiple of 4 cost one Philox block.
#pragma once

#include <cstdint>

#include "kernels/dropout.h"
#include "tensor/cuda/launch.cuh"

namespace wedge::cu {

// Made on the host, given to a kernel by value.
struct MaskSource {
  const std::int64_t* counter;  // in device memory; null: every mask is 1
  MaskRule<float> rule;

  explicit MaskSource(const DropoutMask& mask)
      : counter(mask.active() ? mask.counter : nullptr), rule(mask) {}
};

// A MaskSource in a kernel: the counters in registers, loaded once, since after a store the compiler loads
// again what the store might have changed.
class Masks {
 public:
  __device__ explicit Masks(const MaskSource& source) : source_(source) {
    if (on()) counter_ = MaskCounter::load(source.counter);
  }

  __device__ bool on() const { return source_.counter != nullptr; }

  // The mask of element i: 0 or 1 / (1 - rate).
  __device__ float at(std::int64_t i) const {
    if (!on()) return 1.0f;
    const Philox4 words = block(i / 4);
    // Not words.v[i % 4]: an array that is indexed at run time would live in memory.
    const std::uint32_t low = (i & 1) != 0 ? words.v[1] : words.v[0];
    const std::uint32_t high = (i & 1) != 0 ? words.v[3] : words.v[2];
    return keep((i & 2) != 0 ? high : low);
  }

  // The masks of elements i to i + kWidth - 1, of one or, for i a multiple of 4, of four.
  template <int kWidth>
  __device__ void fill(std::int64_t i, float (&masks)[kWidth]) const {
    static_assert(kWidth == 1 || kWidth == 4);
    if constexpr (kWidth == 1) {
      masks[0] = at(i);
    } else if (on()) {
      const Philox4 words = block(i / 4);
      WEDGE_UNROLL
      for (int k = 0; k < 4; ++k) masks[k] = keep(words.v[k]);
    } else {
      WEDGE_UNROLL
      for (int k = 0; k < 4; ++k) masks[k] = 1;
    }
  }
  // x times these.
  template <int kWidth>
  __device__ void apply(std::int64_t i, float (&x)[kWidth]) const {
    float masks[kWidth];
    fill(i, masks);
    WEDGE_UNROLL
    for (int k = 0; k < kWidth; ++k) x[k] *= masks[k];
  }

 private:
  __device__ Philox4 block(std::int64_t number) const {
    return source_.rule.words(counter_, static_cast<std::uint32_t>(number));
  }
  __device__ float keep(std::uint32_t word) const { return source_.rule.mask_of(word); }

  const MaskSource& source_;
  MaskCounter counter_;
};

}  // namespace wedge::cu
