// Division that rounds up, of numbers that are not negative.
#pragma once

#include <type_traits>

#include "tensor/host_device.h"

namespace wedge {

template <class T>
WEDGE_HOST_DEVICE constexpr T ceil_div(T n, std::type_identity_t<T> by) {
  return (n + (by - 1)) / by;
}
// The next multiple of `unit`.
template <class T>
WEDGE_HOST_DEVICE constexpr T round_up(T n, std::type_identity_t<T> unit) {
  return ceil_div(n, unit) * unit;
}

}  // namespace wedge
