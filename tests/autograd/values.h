// Small float64 tensors and gradients as lists of numbers.
#pragma once

#include <vector>

#include "autograd/variable.h"

namespace wedge::test {

using Values = std::vector<double>;

inline Tensor values(const Values& v) {
  return Tensor::from<double>(v, {static_cast<std::int64_t>(v.size())});
}

inline Values grad_of(const Variable& v) {
  return v.grad().to_vector();
}

}  // namespace wedge::test
