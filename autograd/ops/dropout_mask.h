// From a Dropout to what kernels take, and eps of normalisations. Internal to autograd/ops/.
#pragma once

#include "autograd/ops.h"
#include "kernels/dropout.h"

namespace wedge {

// `x` is what the mask is for.
inline void check_dropout(const char* op, const Dropout& dropout, const Variable& x) {
  WEDGE_CHECK(dropout.rate >= 0 && dropout.rate < 1, "{}: rate must be in [0, 1), got {}", op, dropout.rate);
  WEDGE_CHECK(dropout.site < 0x80000000u, "{}: site must be below 2^31, got {}", op, dropout.site);
  WEDGE_CHECK(
      !dropout.active() || (dropout.counter.dtype() == DType::i64 && dropout.counter.shape() == Shape{3}),
      "{}: the counter must be int64 [3], got {} {}", op, name_of(dropout.counter.dtype()),
      to_string(dropout.counter.shape()));
  WEDGE_CHECK(!dropout.active() || dropout.counter.device() == x.value().device(),
              "{}: the counter must be on {}, got {}", op, name_of(x.value().device()),
              name_of(dropout.counter.device()));
}

// NaN is refused too.
inline void check_eps(const char* op, double eps) {
  WEDGE_CHECK(eps >= 0, "{}: eps must be at least 0, got {}", op, eps);
}

inline DropoutMask mask_of(const Dropout& dropout) {
  if (!dropout.active()) return {};
  return {dropout.rate, dropout.site, dropout.counter.data<std::int64_t>()};
}

}  // namespace wedge
