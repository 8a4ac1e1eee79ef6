#include "kernels/softmax.h"

#include "kernels/cpu/exp.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"

namespace wedge::cpu {

template <class T>
void softmax_forward(const Exec&, const SoftmaxForward<T>& args) {
  parallel_rows(args.rows, args.n, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const auto x = as_array(args.x + row * args.n, args.n);
      auto y = as_array(args.y + row * args.n, args.n);
      const T m = x.maxCoeff();
      exp_run(args.n, x.data(), m, y.data());
      const T sum = y.sum();
      if (args.log)
        y = (x - m) - std::log(sum);
      else
        y *= T(1) / sum;
    }
  });
}

template <class T>
void softmax_backward(const Exec&, const SoftmaxBackward<T>& args) {
  parallel_rows(args.rows, args.n, [&](std::int64_t begin, std::int64_t end) {
    ArrayX<T> p(args.log ? args.n : 0);
    for (std::int64_t row = begin; row < end; ++row) {
      const auto y = as_array(args.y + row * args.n, args.n), dy = as_array(args.dy + row * args.n, args.n);
      auto dx = as_array(args.dx.data + row * args.n, args.n);
      const T total = args.log ? dy.sum() : (dy * y).sum();
      if (!args.dx.add) dx.setZero();
      if (args.log) {
        exp_run(args.n, y.data(), T(0), p.data());
        dx += dy - p * total;
      } else {
        dx += y * (dy - total);
      }
    }
  });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(softmax_forward, SoftmaxForward)
WEDGE_INSTANTIATE_CPU(softmax_backward, SoftmaxBackward)
}  // namespace wedge
