#include "kernels/gate_blend.h"

#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/gate.h"
#include "kernels/matmul.h"

namespace wedge {

Variable gate_blend(const Variable& h, const Variable& g, const Variable& weight, const Variable& bias) {
  check_gate("gate_blend", h, g, weight, bias);
  const std::int64_t D = h.size(-1), rows = h.value().numel() / std::max<std::int64_t>(D, 1);

  const Tensor a = h.value().contiguous(), b = g.value().contiguous(), w = weight.value().contiguous();
  const Tensor c = compute::dense_or_none(bias);
  const Tensor alpha = Tensor::empty(h.shape(), h.dtype(), a.device()),
               y = Tensor::empty(h.shape(), h.dtype(), a.device());
  visit_floating(h.dtype(), "gate_blend", [&]<class T>(T) {
    const Exec exec = compute::exec_of(y);
    gate_blend_forward<T>(exec, {.rows = rows,
                                 .D = D,
                                 .h = a.data<T>(),
                                 .g = b.data<T>(),
                                 .weight = w.data<T>(),
                                 .bias = compute::data_or_null<T>(c),
                                 .alpha = alpha.data<T>(),
                                 .y = y.data<T>(),
                                 .h_rounded = compute::rounded_activation(exec, a),
                                 .g_rounded = compute::rounded_activation(exec, b),
                                 .weight_rounded = compute::rounded(exec, w)});
  });
  return make_output(
      "gate_blend", y, {h, g, weight, bias},
      [rows, D, a = Saved(a), b = Saved(b), w = Saved(w), alpha](const BackwardContext& ctx) {
        const GradSink dh = ctx.sink(0), dg = ctx.sink(1), dw = ctx.sink(2), db = ctx.sink(3);
        visit_floating(alpha.dtype(), "gate_blend", [&]<class T>(T) {
          const Exec exec = compute::exec_of(alpha);
          const Tensor &h = a.get("gate_blend"), &g = b.get("gate_blend");
          const T *in_h = h.data<T>(), *in_g = g.data<T>();
          const T* in_w = w.get("gate_blend").data<T>();
          // du in bfloat16 alone, where that is what the products take
          const Tensor du_copy = compute::empty_rounded(exec, alpha);
          const Tensor du =
              du_copy.defined() ? Tensor() : Tensor::empty({rows, D}, alpha.dtype(), alpha.device());
          const T* const in_du = compute::data_or_null<T>(du);
          BFloat16* const du_rounded = compute::data_or_null<BFloat16>(du_copy);
          blend_backward<T>(exec, {.rows = rows,
                                   .D = D,
                                   .h = in_h,
                                   .g = in_g,
                                   .alpha = alpha.data<T>(),
                                   .dy = ctx.grad().data<T>(),
                                   .du = compute::data_or_null<T>(du),
                                   .dh = dh.of<T>(),
                                   .dg = dg.of<T>(),
                                   .dbias = db.of<T>(),
                                   .du_rounded = du_rounded});
          // d[h ; g] += du W, the kernel above has written the first part
          const GemmOperand<T> W{in_w, 2 * D, compute::rounded(exec, w.get("gate_blend"))};
          for (const bool is_g : {false, true}) {
            const GradSink& dx = is_g ? dg : dh;
            if (!dx) continue;
            gemm<T>(exec, {.M = rows,
                           .N = D,
                           .K = D,
                           .A = {in_du, D, du_rounded},
                           .B = W.offset_by(is_g ? D : 0),
                           .C = {dx.tensor.data<T>(), D},
                           .beta = 1});
          }
          if (!dw) return;
          const BFloat16 *const h_rounded = compute::rounded_activation(exec, h),
                                *const g_rounded = compute::rounded_activation(exec, g);
          compute::beside(exec, dw, {h, g, du.defined() ? du : du_copy}, [&](const Exec& aside) {
            for (const bool is_g : {false, true})
              gemm<T>(aside, {.M = D,
                              .N = D,
                              .K = rows,
                              .A = transposed(in_du, D, du_rounded),
                              .B = {is_g ? in_g : in_h, D, is_g ? g_rounded : h_rounded},
                              .C = {dw.tensor.data<T>() + (is_g ? D : 0), 2 * D},
                              .beta = dw.add ? T(1) : T(0)});
          });
        });
      });
}

}  // namespace wedge
