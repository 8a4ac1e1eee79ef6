#include "autograd/compute.h"
#include "autograd/ops.h"

namespace wedge {

Variable matmul(const Variable& a, const Variable& b) {
  compute::check_operands("matmul", {{"a", a}, {"b", b}});
  return make_output("matmul", compute::matmul(a.value(), b.value()), {a, b},
                     [lhs = Saved(a.value()), rhs = Saved(b.value())](const BackwardContext& ctx) {
                       if (ctx.wants(0))
                         ctx.accumulate(0, compute::matmul(ctx.grad(), rhs.get("matmul").transpose(-2, -1)));
                       if (ctx.wants(1))
                         ctx.accumulate(1, compute::matmul(lhs.get("matmul").transpose(-2, -1), ctx.grad()));
                     });
}

}  // namespace wedge
