// Checking of index tensors. Internal to autograd/ops/.
#pragma once

#include "tensor/tensor.h"

namespace wedge {

// The ids as a dense tensor, after checking that they are int32 on the device of `table`, and in [0, n). Only
// the host looks at values: a kernel would have to be waited for.
inline Tensor checked_indices(const char* op, const Tensor& ids, std::int64_t n, const Tensor& table) {
  WEDGE_CHECK(ids.defined(), "{}: expected indices, got an undefined tensor", op);
  WEDGE_CHECK(ids.dtype() == DType::i32, "{}: indices must be int32, got {}", op, name_of(ids.dtype()));
  WEDGE_CHECK(ids.device() == table.device(), "{}: indices must be on {}, got {}", op,
              name_of(table.device()), name_of(ids.device()));
  Tensor dense = ids.contiguous();
  if (dense.device() == Device::cpu) {
    const auto* p = dense.data<std::int32_t>();
    for (std::int64_t i = 0; i < dense.numel(); ++i)
      WEDGE_CHECK(p[i] >= 0 && p[i] < n, "{}: index must be in [0, {}), got {} at {}", op, n, p[i], i);
  }
  return dense;
}

}  // namespace wedge
