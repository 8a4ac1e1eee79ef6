#include "kernels/gate_blend.h"

#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/exp.h"

namespace wedge::cpu {

template <class T>
void blend_forward(const Exec&, const BlendForward<T>& args) {
  const std::int64_t D = args.D;
  parallel_rows(args.rows, D, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const auto h = as_array(args.h + row * D, D), g = as_array(args.g + row * D, D);
      auto alpha = as_array(args.alpha + row * D, D);
      if (args.bias != nullptr) alpha += as_array(args.bias, D);
      sigmoid_run(D, alpha.data(), alpha.data());
      as_array(args.y + row * D, D) = alpha * h + (T(1) - alpha) * g;
    }
  });
}

template <class T>
void blend_backward(const Exec&, const BlendBackward<T>& args) {
  const std::int64_t D = args.D;
  sum_row_blocks<T>(
      args.rows, D,
      [&](std::int64_t begin, std::int64_t end, T* partial) {
        for (std::int64_t row = begin; row < end; ++row) {
          const std::int64_t at = row * D;
          const auto h = as_array(args.h + at, D), g = as_array(args.g + at, D);
          const auto alpha = as_array(args.alpha + at, D), dy = as_array(args.dy + at, D);
          auto du = as_array(args.du + at, D);
          du = dy * (h - g) * alpha * (T(1) - alpha);
          as_array(partial, D) += du;
          store_row(args.dh, at, D, dy * alpha);
          store_row(args.dg, at, D, dy * (T(1) - alpha));
        }
      },
      [&](std::int64_t i, T total) { store(args.dbias, i, total); });
}

template <class T>
void gate_blend_forward(const Exec& exec, const GateBlendForward<T>& args) {
  gate_in_parts<T>(
      args, [&](const Gemm<T>& product) { cpu::gemm<T>(exec, product); },
      [&](const BlendForward<T>& blend) { cpu::blend_forward<T>(exec, blend); });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(gate_blend_forward, GateBlendForward)
WEDGE_INSTANTIATE_CPU(blend_forward, BlendForward)
WEDGE_INSTANTIATE_CPU(blend_backward, BlendBackward)
}  // namespace wedge
