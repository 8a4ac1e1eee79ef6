// From a Dropout to what kernels take. Internal to autograd/ops/.
#pragma once

#include "autograd/ops.h"
#include "kernels/dropout.h"

namespace wedge {

inline void check_dropout(const char* op, const Dropout& dropout) {
  WEDGE_CHECK(dropout.rate >= 0 && dropout.rate < 1, "{}: rate must be in [0, 1), got {}", op, dropout.rate);
  WEDGE_CHECK(
      !dropout.active() || (dropout.counter.dtype() == DType::i64 && dropout.counter.shape() == Shape{3}),
      "{}: the counter must be int64 [3], got {} {}", op, name_of(dropout.counter.dtype()),
      to_string(dropout.counter.shape()));
}

inline DropoutMask mask_of(const Dropout& dropout) {
  if (!dropout.active()) return {};
  return {dropout.rate, dropout.site, dropout.counter.data<std::int64_t>()};
}

}  // namespace wedge
