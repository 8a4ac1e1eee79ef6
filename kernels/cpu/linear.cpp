#include "kernels/linear.h"

#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/math.h"

namespace wedge::cpu {

template <class T>
void bias_add(const Exec&, const BiasAdd<T>& args) {
  const auto bias = as_array(args.bias, args.D);
  parallel_rows(args.rows, args.D, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) as_array(args.y + row * args.D, args.D) += bias;
  });
}

template <class T>
void bias_gelu_forward(const Exec&, const BiasGeluForward<T>& args) {
  parallel_rows(args.rows, args.D, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      auto u = as_array(args.u + row * args.D, args.D);
      if (args.bias != nullptr) u += as_array(args.bias, args.D);
      as_array(args.y + row * args.D, args.D) = u * gaussian_cdf(u);
    }
  });
}

template <class T>
void bias_gelu_backward(const Exec&, const BiasGeluBackward<T>& args) {
  sum_row_blocks<T>(
      args.rows, args.D,
      [&](std::int64_t begin, std::int64_t end, T* partial) {
        for (std::int64_t row = begin; row < end; ++row) {
          const auto u = as_array(args.u + row * args.D, args.D);
          auto du = as_array(args.du + row * args.D, args.D);
          du = as_array(args.dy + row * args.D, args.D) * (gaussian_cdf(u) + u * gaussian_pdf(u));
          as_array(partial, args.D) += du;
        }
      },
      [&](std::int64_t i, T total) { store(args.dbias, args.dbias_add, i, total); });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(bias_add, BiasAdd)
WEDGE_INSTANTIATE_CPU(bias_gelu_forward, BiasGeluForward)
WEDGE_INSTANTIATE_CPU(bias_gelu_backward, BiasGeluBackward)
}  // namespace wedge
