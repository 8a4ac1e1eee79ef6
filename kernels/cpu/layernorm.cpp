// One pass over memory in each direction: a row of s stays in L1 between its statistics and its use.
#include "kernels/layernorm.h"

#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/dropout_mask.h"
#include "kernels/cpu/math.h"

namespace wedge::cpu {

template <class T>
void layernorm_forward(const Exec&, const LayernormForward<T>& args) {
  const std::int64_t D = args.D;
  const bool masked = args.mask.active();
  const auto weight = as_array(args.weight, D), bias = as_array(args.bias, D);
  parallel_rows(args.rows, D, [&](std::int64_t begin, std::int64_t end) {
    ArrayX<T> s(D), mask(masked ? D : 0);
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t at = row * D;
      s = as_array(args.x + at, D);
      if (masked) MaskSource<T>(args.mask).fill(at, D, mask.data());
      if (masked && !args.masks_output) s *= mask;
      if (args.residual != nullptr) s += as_array(args.residual + at, D);
      if (args.s != nullptr) as_array(args.s + at, D) = s;
      const T mean = s.mean();
      const T rstd = T(1) / std::sqrt((s - mean).square().mean() + static_cast<T>(args.eps));
      as_array(args.y + at, D) = (s - mean) * rstd * weight + bias;
      if (masked && args.masks_output) as_array(args.y + at, D) *= mask;
      args.mean[row] = mean;
      args.rstd[row] = rstd;
    }
  });
}

template <class T>
void layernorm_backward(const Exec&, const LayernormBackward<T>& args) {
  const std::int64_t D = args.D;
  const bool masked = args.mask.active();
  const auto weight = as_array(args.weight, D);
  sum_row_blocks<T>(
      args.rows, 2 * D,
      [&](std::int64_t begin, std::int64_t end, T* partial) {
        auto dweight = as_array(partial, D), dbias = as_array(partial + D, D);
        ArrayX<T> xhat(D), ds(D), dy(D), mask(masked ? D : 0);
        for (std::int64_t row = begin; row < end; ++row) {
          const std::int64_t at = row * D;
          dy = as_array(args.dy + at, D);
          if (masked) MaskSource<T>(args.mask).fill(at, D, mask.data());
          if (masked && args.masks_output) dy *= mask;
          xhat = (as_array(args.s + at, D) - args.mean[row]) * args.rstd[row];
          dweight += dy * xhat;
          dbias += dy;
          ds = dy * weight;
          const T mean_g = ds.mean(), mean_gx = (ds * xhat).mean();
          ds = args.rstd[row] * (ds - mean_g - xhat * mean_gx);
          store_row(args.dresidual, at, D, ds);
          if (masked && !args.masks_output) ds *= mask;
          store_row(args.dx, at, D, ds);
        }
      },
      [&](std::int64_t i, T total) {
        if (i < D)
          store(args.dweight, i, total);
        else
          store(args.dbias, i - D, total);
      });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(layernorm_forward, LayernormForward)
WEDGE_INSTANTIATE_CPU(layernorm_backward, LayernormBackward)
}  // namespace wedge
