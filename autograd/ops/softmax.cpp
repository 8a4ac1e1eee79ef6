#include "kernels/softmax.h"

#include "autograd/compute.h"
#include "autograd/ops.h"

namespace wedge {
namespace {

Variable softmax_like(const char* name, const Variable& x, bool log) {
  compute::check_operands(name, {{"x", x}});
  WEDGE_CHECK(x.value().rank() >= 1 && x.size(-1) > 0, "{}: expected [..., n] with n > 0, got {}", name,
              to_string(x.shape()));
  const Tensor input = x.value().contiguous();
  const std::int64_t n = x.size(-1), rows = input.numel() / n;
  const Tensor y = Tensor::empty(x.shape(), x.dtype(), input.device());
  visit_floating(x.dtype(), name, [&]<class T>(T) {
    softmax_forward<T>(compute::exec_of(y), {rows, n, log, input.data<T>(), y.data<T>()});
  });
  return make_output(name, y, {x}, [name, rows, n, log, output = Saved(y)](const BackwardContext& ctx) {
    const GradSink dx = ctx.sink(0);
    const Tensor& y = output.get(name);
    visit_floating(y.dtype(), name, [&]<class T>(T) {
      softmax_backward<T>(compute::exec_of(y), {rows, n, log, y.data<T>(), ctx.grad().data<T>(), dx.of<T>()});
    });
  });
}

}  // namespace

Variable softmax(const Variable& x) {
  return softmax_like("softmax", x, false);
}
Variable log_softmax(const Variable& x) {
  return softmax_like("log_softmax", x, true);
}

}  // namespace wedge
