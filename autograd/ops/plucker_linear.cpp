#include "kernels/plucker_linear.h"

#include "autograd/compute.h"
#include "autograd/ops.h"

namespace wedge {

Variable plucker_linear(const Variable& z, const Variable& weight, const Variable& bias,
                        const std::vector<std::int64_t>& lags, std::int64_t begin) {
  compute::check_operands("plucker_linear", {{"z", z}, {"weight", weight}, {"bias", bias, true}});
  WEDGE_CHECK(z.value().rank() == 3 && z.size(2) >= 2,
              "plucker_linear: expected z [B, L, R] with R >= 2, got {}", to_string(z.shape()));
  const std::int64_t B = z.size(0), L = z.size(1), R = z.size(2), P = R * (R - 1) / 2;
  WEDGE_CHECK(weight.value().rank() == 2 && weight.size(1) == P,
              "plucker_linear: weight must be [D, {}], got {}", P, to_string(weight.shape()));
  const std::int64_t D = weight.size(0);
  WEDGE_CHECK(!bias.defined() || bias.shape() == Shape{D}, "plucker_linear: bias must be [{}], got {}", D,
              to_string(bias.shape()));
  for (const std::int64_t lag : lags) WEDGE_CHECK(lag >= 1, "plucker_linear: lags must be >= 1, got {}", lag);
  WEDGE_CHECK(0 <= begin && begin <= L, "plucker_linear: begin must be 0 to {}, got {}", L, begin);

  // Only the CPU's forward pass, as in decoding, saves the product of the others.
  if (begin > 0 && (needs_graph({z, weight, bias}) || z.value().device() != Device::cpu))
    return slice(plucker_linear(z, weight, bias, lags), 1, begin, L);

  const Tensor in = z.value().contiguous(), w = weight.value().contiguous();
  const Tensor b = compute::dense_or_none(bias);
  const Tensor s = Tensor::empty(z.shape(), z.dtype(), in.device()),
               g = Tensor::empty({B, L - begin, D}, z.dtype(), in.device());
  Tensor ring;  // the weight as the products of both passes take it
  visit_floating(z.dtype(), "plucker_linear", [&]<class T>(T) {
    const Exec exec = compute::exec_of(g);
    if (const std::int64_t elements = plucker_ring_elements<T>(exec, R, D); elements > 0)
      ring = Tensor::empty({elements}, DType::bf16, in.device());
    plucker_linear_forward<T>(exec, {B, L, R, D, lags, in.data<T>(), w.data<T>(), compute::data_or_null<T>(b),
                                     s.data<T>(), g.data<T>(), compute::data_or_null<BFloat16>(ring), begin});
  });
  GradUse use{.is_factor = ring.defined(), .is_summed = ring.defined() && bias.requires_grad()};
  if constexpr (kWithCuda) use.reads_copy_alone = ring.defined() && cu::plucker_linear_reads_rounded(D);
  return make_output(
      "plucker_linear", g, {z, weight, bias},
      [B, L, R, D, lags, in = Saved(in), w = Saved(w), s, ring](const BackwardContext& ctx) {
        const GradSink dz = ctx.sink(0), dweight = ctx.sink(1), dbias = ctx.sink(2);
        visit_floating(s.dtype(), "plucker_linear", [&]<class T>(T) {
          const Exec exec = compute::exec_of(s);
          // Who sums dg rounds it too; else both are done in one pass.
          const bool summed = compute::add_up_sums(ctx, dbias);
          const BFloat16* const dg_rounded =
              ctx.grad_sums() || !dbias ? compute::rounded_activation(exec, ctx.grad()) : nullptr;
          PluckerLinearBackward<T> args{.B = B,
                                        .L = L,
                                        .R = R,
                                        .D = D,
                                        .lags = lags,
                                        .z = in.get("plucker_linear").data<T>(),
                                        .s = s.data<T>(),
                                        .weight = w.get("plucker_linear").data<T>(),
                                        .dg = ctx.grad().data<T>(),
                                        .dz = dz.of<T>(),
                                        .dweight = dweight.of<T>(),
                                        .dbias = summed ? Sink<T>() : dbias.of<T>(),
                                        .dz_rounded = compute::round_into(exec, dz),
                                        .weight_ring = compute::data_or_null<BFloat16>(ring),
                                        .dg_rounded = dg_rounded};
          cu::PartialSums sums;
          if constexpr (kWithCuda && kOnCuda<T>)
            if (exec.device == Device::cuda)
              sums = compute::sums_into(dz, cu::plucker_linear_dz_pieces(args));
          args.dz_sums = sums.data();
          // Beside the rest, unless both need a copy of dg that only the kernel makes: rounded, or padded.
          if (dweight.side != nullptr && (!exec.bf16_products || (dg_rounded != nullptr && D % 8 == 0))) {
            PluckerLinearBackward<T> of_weight = args;
            of_weight.dz = {};
            of_weight.dbias = {};
            compute::beside(exec, dweight, {in.get("plucker_linear"), s, ctx.grad()},
                            [&](const Exec& aside) { plucker_linear_backward<T>(aside, of_weight); });
            args.dweight = {};
          }
          plucker_linear_backward<T>(exec, args);
          if (sums) ctx.give_sums(0, std::move(sums));
        });
      },
      use);
}

}  // namespace wedge
