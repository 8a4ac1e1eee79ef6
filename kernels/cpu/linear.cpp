#include "kernels/linear.h"

#include "kernels/cpu/column_sums.h"
#include "kernels/cpu/math.h"
#include "kernels/matmul.h"
#include "kernels/reduce.h"

namespace wedge::cpu {

template <class T>
void linear_forward(const Exec& exec, const LinearForward<T>& args) {
  cpu::gemm<T>(exec, {.M = args.rows,
                      .N = args.N,
                      .K = args.K,
                      .A = {args.x, args.K},
                      .B = transposed(args.weight, args.K),
                      .C = {args.y, args.N}});
  if (args.bias == nullptr) return;
  const auto bias = as_array(args.bias, args.N);
  parallel_rows(args.rows, args.N, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) as_array(args.y + row * args.N, args.N) += bias;
  });
}

template <class T>
void linear_dbias(const Exec& exec, const LinearDbias<T>& args) {
  cpu::reduce<T>(exec, {ReduceOp::sum, 1, args.rows, args.N, args.dy, args.dbias});
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
          du = as_array(args.dy + row * args.D, args.D) * gelu_slope(u);
          as_array(partial, args.D) += du;
        }
      },
      [&](std::int64_t i, T total) { store(args.dbias, i, total); });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(linear_forward, LinearForward)
WEDGE_INSTANTIATE_CPU(linear_dbias, LinearDbias)
WEDGE_INSTANTIATE_CPU(bias_gelu_forward, BiasGeluForward)
WEDGE_INSTANTIATE_CPU(bias_gelu_backward, BiasGeluBackward)
}  // namespace wedge
