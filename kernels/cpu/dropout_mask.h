// Dropout masks for runs of elements, many Philox counters at a time so that the rounds vectorise.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/dropout.h"
#include "tensor/rng.h"

namespace wedge::cpu {

template <class T>
class MaskSource {
 public:
  explicit MaskSource(const DropoutMask& mask)
      : key_(static_cast<std::uint64_t>(mask.counter[0])),
        c1_(mask.site | 0x80000000u),
        c2_(static_cast<std::uint32_t>(mask.counter[2])),
        c3_(static_cast<std::uint32_t>(mask.counter[1])),
        drop_below_(static_cast<std::uint32_t>(std::min(std::floor(mask.rate * 0x1p32), 0x1p32 - 1))),
        keep_scale_(static_cast<T>(1.0 / (1.0 - mask.rate))) {}

  // out[i] = mask of element begin + i: 0 or 1 / (1 - rate).
  void fill(std::int64_t begin, std::int64_t n, T* out) const {
    std::int64_t block = begin / 4;
    std::int64_t skip = begin % 4;
    for (std::int64_t i = 0; i < n; block += kLanes) {
      T run[4 * kLanes];
      fill_run(static_cast<std::uint32_t>(block), run);
      const std::int64_t take = std::min<std::int64_t>(4 * kLanes - skip, n - i);
      std::copy_n(run + skip, take, out + i);
      i += take;
      skip = 0;
    }
  }

 private:
  static constexpr int kLanes = 16;

  void fill_run(std::uint32_t block, T* out) const {
    std::uint32_t a[kLanes], b[kLanes], c[kLanes], d[kLanes];
    for (int j = 0; j < kLanes; ++j) {
      const Philox4 words = philox(key_, block + static_cast<std::uint32_t>(j), c1_, c2_, c3_);
      a[j] = words.v[0];
      b[j] = words.v[1];
      c[j] = words.v[2];
      d[j] = words.v[3];
    }
    for (int j = 0; j < kLanes; ++j) {
      out[4 * j] = keep(a[j]);
      out[4 * j + 1] = keep(b[j]);
      out[4 * j + 2] = keep(c[j]);
      out[4 * j + 3] = keep(d[j]);
    }
  }
  T keep(std::uint32_t word) const { return word >= drop_below_ ? keep_scale_ : T(0); }

  std::uint64_t key_;
  std::uint32_t c1_, c2_, c3_;
  std::uint32_t drop_below_;
  T keep_scale_;
};

}  // namespace wedge::cpu
