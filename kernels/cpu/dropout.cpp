#include "kernels/dropout.h"

#include "kernels/cpu/dropout_mask.h"
#include "kernels/cpu/math.h"

namespace wedge::cpu {

template <class T>
void dropout_forward(const Exec&, const DropoutForward<T>& args) {
  for_masked_runs<T>(args.n, args.mask, [&](std::int64_t i, std::int64_t n, auto mask) {
    auto y = as_array(args.y + i, n);
    if (args.residual != nullptr) {
      y = as_array(args.residual + i, n) + mask * as_array(args.x + i, n);
    } else {
      y = mask * as_array(args.x + i, n);
    }
  });
}

template <class T>
void dropout_backward(const Exec&, const DropoutBackward<T>& args) {
  for_masked_runs<T>(args.n, args.mask, [&](std::int64_t i, std::int64_t n, auto mask) {
    store_row(args.dx, i, n, mask * as_array(args.dy + i, n));
  });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(dropout_forward, DropoutForward)
WEDGE_INSTANTIATE_CPU(dropout_backward, DropoutBackward)
}  // namespace wedge
