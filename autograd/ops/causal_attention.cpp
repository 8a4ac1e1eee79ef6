#include "kernels/causal_attention.h"

#include "autograd/compute.h"
#include "autograd/ops.h"

namespace wedge {

Variable causal_attention(const Variable& qkv, std::int64_t num_heads) {
  compute::check_operands("causal_attention", {{"qkv", qkv}});
  WEDGE_CHECK(qkv.value().rank() == 3 && num_heads >= 1 && qkv.size(2) > 0 &&
                  qkv.size(2) / 3 % num_heads == 0 && qkv.size(2) % 3 == 0,
              "causal_attention: expected [B, L, 3 D] with D a multiple of {} heads, got {}", num_heads,
              to_string(qkv.shape()));
  const std::int64_t B = qkv.size(0), L = qkv.size(1), D = qkv.size(2) / 3, H = num_heads;
  const Tensor in = qkv.value().contiguous();
  const Tensor o = Tensor::empty({B, L, D}, qkv.dtype(), in.device());
  Tensor lse;
  if (in.device() == Device::cuda) lse = Tensor::empty({B, H, L}, qkv.dtype(), in.device());
  visit_floating(qkv.dtype(), "causal_attention", [&]<class T>(T) {
    const Exec exec = compute::exec_of(o);
    causal_attention_forward<T>(exec, {B, L, H, D, in.data<T>(), o.data<T>(), compute::data_or_null<T>(lse),
                                       compute::round_into(exec, o)});
  });
  return make_output("causal_attention", o, {qkv},
                     [B, L, H, D, in = Saved(in), output = Saved(o), lse](const BackwardContext& ctx) {
                       const GradSink dqkv = ctx.sink(0);
                       const Tensor& o = output.get("causal_attention");
                       visit_floating(o.dtype(), "causal_attention", [&]<class T>(T) {
                         const Exec exec = compute::exec_of(o);
                         CausalAttentionBackward<T> args{.B = B,
                                                         .L = L,
                                                         .H = H,
                                                         .D = D,
                                                         .qkv = in.get("causal_attention").data<T>(),
                                                         .o = o.data<T>(),
                                                         .lse = compute::data_or_null<T>(lse),
                                                         .dout = ctx.grad().data<T>(),
                                                         .dqkv = dqkv.of<T>(),
                                                         .dqkv_rounded = compute::round_into(exec, dqkv)};
                         cu::PartialSums sums;
                         if constexpr (kWithCuda && kOnCuda<T>)
                           if (exec.device == Device::cuda)
                             sums = compute::sums_into(dqkv, cu::causal_attention_dqkv_pieces(exec, args));
                         args.dqkv_sums = sums.data();
                         causal_attention_backward<T>(exec, args);
                         if (sums) ctx.give_sums(0, std::move(sums));
                       });
                     });
}

}  // namespace wedge
