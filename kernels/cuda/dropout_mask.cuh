// Dropout masks on the GPU, the same bits as kernels/cpu/dropout_mask.h gives: element i of a site is kept or
// dropped by word i mod 4 of one Philox block, so four neighbours that start at a multiple of 4 cost one
// block.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/dropout.h"
#include "tensor/cuda/launch.cuh"
#include "tensor/rng.h"

namespace wedge::cu {

// Made on the host, given to a kernel by value. With rate 0 every mask is 1 and the counters are not read.
struct MaskSource {
  const std::int64_t* counter;  // [3] seed, step, micro_step, in device memory; null: off
  std::uint32_t site;
  std::uint32_t drop_below;
  float keep_scale;

  explicit MaskSource(const DropoutMask& mask)
      : counter(mask.rate > 0 ? mask.counter : nullptr),
        site(mask.site | 0x80000000u),
        drop_below(static_cast<std::uint32_t>(std::min(std::floor(mask.rate * 0x1p32), 0x1p32 - 1))),
        keep_scale(static_cast<float>(1.0 / (1.0 - mask.rate))) {}
};

// A MaskSource in a kernel: the counters in registers, loaded once, since after a store the compiler loads
// again what the store might have changed.
class Masks {
 public:
  __device__ explicit Masks(const MaskSource& source) : source_(source) {
    if (!on()) return;
    seed_ = static_cast<std::uint64_t>(*source.counter);
    step_ = static_cast<std::uint32_t>(source.counter[1]);
    micro_step_ = static_cast<std::uint32_t>(source.counter[2]);
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

  // The masks of elements i to i + 3, for i a multiple of 4.
  __device__ float4 four(std::int64_t i) const {
    if (!on()) return make_float4(1.0f, 1.0f, 1.0f, 1.0f);
    const Philox4 words = block(i / 4);
    return make_float4(keep(words.v[0]), keep(words.v[1]), keep(words.v[2]), keep(words.v[3]));
  }

  // The masks of elements i to i + kWidth - 1, of one or, for i a multiple of 4, of four.
  template <int kWidth>
  __device__ void fill(std::int64_t i, float (&masks)[kWidth]) const {
    static_assert(kWidth == 1 || kWidth == 4);
    if constexpr (kWidth == 4) {
      const float4 m = four(i);
      masks[0] = m.x, masks[1] = m.y, masks[2] = m.z, masks[3] = m.w;
    } else {
      masks[0] = at(i);
    }
  }

 private:
  __device__ Philox4 block(std::int64_t number) const {
    return philox(seed_, static_cast<std::uint32_t>(number), source_.site, micro_step_, step_);
  }
  __device__ float keep(std::uint32_t word) const {
    return word >= source_.drop_below ? source_.keep_scale : 0.0f;
  }

  const MaskSource& source_;
  std::uint64_t seed_ = 0;
  std::uint32_t step_ = 0, micro_step_ = 0;
};

}  // namespace wedge::cu
