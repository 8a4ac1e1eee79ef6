// Dropout masks for runs of elements, many Philox counters at a time so that the rounds vectorise.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"
#include "kernels/dropout.h"

namespace wedge::cpu {

template <class T>
class MaskSource {
 public:
  explicit MaskSource(const DropoutMask& mask) : rule_(mask), counter_(MaskCounter::load(mask.counter)) {}

  // out[i] = mask of element begin + i.
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
      const Philox4 words = rule_.words(counter_, block + static_cast<std::uint32_t>(j));
      a[j] = words.v[0];
      b[j] = words.v[1];
      c[j] = words.v[2];
      d[j] = words.v[3];
    }
    for (int j = 0; j < kLanes; ++j) {
      out[4 * j] = rule_.mask_of(a[j]);
      out[4 * j + 1] = rule_.mask_of(b[j]);
      out[4 * j + 2] = rule_.mask_of(c[j]);
      out[4 * j + 3] = rule_.mask_of(d[j]);
    }
  }

  MaskRule<T> rule_;
  MaskCounter counter_;
};

// Calls body(i, n, mask), in parallel, for runs of elements that cover [0, total): mask is an array of
// those of i to i + n - 1, ones where `source` is not active.
template <class T, class Body>
void for_masked_runs(std::int64_t total, const DropoutMask& source, Body&& body) {
  constexpr std::int64_t kRun = 1024;
  parallel_for(total, kElementGrain, [&](std::int64_t begin, std::int64_t end) {
    T mask[kRun];
    if (!source.active()) std::fill_n(mask, std::min(kRun, end - begin), T(1));
    for (std::int64_t i = begin; i < end; i += kRun) {
      const std::int64_t n = std::min(kRun, end - i);
      if (source.active()) MaskSource<T>(source).fill(i, n, mask);
      body(i, n, as_array(static_cast<const T*>(mask), n));
    }
  });
}

}  // namespace wedge::cpu
