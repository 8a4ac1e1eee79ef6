#include "kernels/dropout.h"

#include "kernels/cpu/dropout_mask.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"

namespace wedge::cpu {
namespace {

constexpr std::int64_t kRun = 1024;

// Calls body(begin, n, mask) on runs of elements with their masks.
template <class T, class Body>
void for_masked_runs(std::int64_t total, const DropoutMask& mask, Body&& body) {
  const MaskSource<T> source(mask);
  parallel_for(total, kElementGrain, [&](std::int64_t begin, std::int64_t end) {
    T run[kRun];
    for (std::int64_t i = begin; i < end; i += kRun) {
      const std::int64_t n = std::min(kRun, end - i);
      source.fill(i, n, run);
      body(i, n, as_array(static_cast<const T*>(run), n));
    }
  });
}

}  // namespace

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
    auto dx = as_array(args.dx + i, n);
    if (args.dx_add) {
      dx += mask * as_array(args.dy + i, n);
    } else {
      dx = mask * as_array(args.dy + i, n);
    }
  });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(dropout_forward, DropoutForward)
WEDGE_INSTANTIATE_CPU(dropout_backward, DropoutBackward)
}  // namespace wedge
