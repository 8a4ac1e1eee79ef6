// The gate's forward pass, products and all, on tensor cores and where its shape is none of theirs.
#include "kernels/gate_blend.h"
#include "tests/cases/case.h"
#include "tests/gpu/kernel_check.h"

using namespace wedge;
using namespace wedge::test;
using cases::Draw;

namespace {

// In one kernel? With no copies at hand a call in float is two products of factors that are rounded anew.
template <class T>
void forward(const Side<T>& on, const RowsOfState& s, const Operand& h, const Operand& g,
             const Operand& weight, const Operand& bias, const Operand& alpha, const Operand& y,
             const Operand* copies, [[maybe_unused]] bool in_one) {
  GateBlendForward<T> args{.rows = s.rows,
                           .D = s.D,
                           .h = on(h),
                           .g = on(g),
                           .weight = on(weight),
                           .bias = on(bias),
                           .alpha = on(alpha),
                           .y = on(y)};
  if (copies != nullptr && on.exec.device == Device::cuda) {
    args.h_rounded = on(copies[0]);
    args.g_rounded = on(copies[1]);
    args.weight_rounded = on(copies[2]);
  }
#if defined(WEDGE_EMULATOR)
  const std::uint64_t calls = emulator::calls();
  gate_blend_forward<T>(on.exec, args);
  if (on.exec.device == Device::cuda) CHECK((emulator::calls() - calls == 1) == in_one);
#else
  gate_blend_forward<T>(on.exec, args);
#endif
}

// The tails of tiles of 64 x 128 and of steps of 32, and widths that are no multiple of 8.
std::vector<RowsOfState> sizes() {
  return {{1, 8}, {64, 32}, {65, 40}, {70, 136}, {200, 96}, {63, 128}, {5, 12}, {66, 33}};
}

}  // namespace

TEST_CASE("gpu: the gate with its products in bfloat16", "[gpu][bf16][gate]") {
  if (skip_without_gpu()) return;
  for (const RowsOfState& s : sizes())
    for (const bool with_bias : {false, true}) {
      CAPTURE(s.rows, s.D, with_bias);
      const Shape shape = {s.rows, s.D};
      Draw draw(1, DType::f64);
      const Operand h(draw.normal(shape)), g(draw.normal(shape));
      const Operand weight(draw.normal({s.D, 2 * s.D}, 1 / std::sqrt(2.0 * static_cast<double>(s.D))));
      const Operand bias = with_bias ? Operand(draw.normal({s.D})) : Operand();
      const bool fits = s.D % 8 == 0;
      // In parts: u and u + bias as well; 1 -, · g, +
      const Operand alpha("alpha", unset(shape), naive(fits ? 1 : 3));
      const Operand y("y", unset(shape), naive(fits ? 1 : 3));
      check_kernel({&alpha, &y}, [&]<class T>(const Side<T>& on) {
        forward<T>(on, s, h, g, weight, bias, alpha, y, nullptr, fits);
      });
    }
}

TEST_CASE("gpu: the gate of factors that are at hand in bfloat16", "[gpu][bf16][gate]") {
  if (skip_without_gpu()) return;
  for (const RowsOfState& s : sizes())
    for (const bool at_hand : {false, true}) {
      CAPTURE(s.rows, s.D, at_hand);
      const Shape shape = {s.rows, s.D};
      Draw draw(2, DType::f64);
      const Tensor hv = draw.normal(shape), gv = draw.normal(shape);
      const Tensor wv = draw.normal({s.D, 2 * s.D}, 1 / std::sqrt(2.0 * static_cast<double>(s.D)));
      const Operand h(in_bf16(hv), DType::f32), g(in_bf16(gv), DType::f32),
          weight = Operand::to_be_rounded(wv);
      const Operand copies[] = {Operand(hv), Operand(gv), Operand(wv)};
      const Operand bias(draw.normal({s.D}), DType::f32);
      const Operand alpha("alpha", unset(shape), kFloat32, DType::f32);
      const Operand y("y", unset(shape), kFloat32, DType::f32);
      check_kernel<float>({&alpha, &y},
                          [&]<class T>(const Side<T>& on) {
                            forward<T>(on, s, h, g, weight, bias, alpha, y, at_hand ? copies : nullptr,
                                       at_hand && s.D % 8 == 0);
                          },
                          {.bf16_products = true});
    }
}

// With W = 0 the copies are in no result.
TEST_CASE("gpu: the gate blends h and g as they are, not their copies", "[gpu][bf16][gate]") {
  if (skip_without_gpu()) return;
  const RowsOfState s{70, 40};
  const Shape shape = {s.rows, s.D};
  Draw draw(3, DType::f64);
  const Operand h(draw.normal(shape), DType::f32), g(draw.normal(shape), DType::f32);
  const Tensor zeros = Tensor::zeros({s.D, 2 * s.D}, DType::f64);
  const Operand weight(zeros, DType::f32), bias(draw.normal({s.D}), DType::f32);
  const Operand copies[] = {Operand(draw.normal(shape)), Operand(draw.normal(shape)), Operand(zeros)};
  const Operand alpha("alpha", unset(shape), kFloat32, DType::f32);
  const Operand y("y", unset(shape), kFloat32, DType::f32);
  check_kernel<float>(
      {&alpha, &y},
      [&]<class T>(const Side<T>& on) { forward<T>(on, s, h, g, weight, bias, alpha, y, copies, true); },
      {.bf16_products = true});
}

// 60 tiles of 128 rows, the last of them with three, times two of 256 columns, the last of them with eight.
TEST_CASE("gpu: the gate's rows are the same in large tiles and in small ones", "[gpu][bf16][gate]") {
  if (skip_without_gpu()) return;
  const RowsOfState s{59 * 128 + 3, 264};
  Draw draw(6, DType::f64);
  const auto on_gpu = [&](const Shape& shape, double scale) {
    return draw.normal(shape, scale).to(DType::bf16).to(Device::cuda);
  };
  const Tensor h = on_gpu({s.rows, s.D}, 1), g = on_gpu({s.rows, s.D}, 1), bias = on_gpu({s.D}, 1),
               weight = on_gpu({s.D, 2 * s.D}, 0.05);
  check_rows_alone(s.rows, 131, [&](std::int64_t first, std::int64_t count) {
    const Tensor out = Tensor::full({2, count, s.D}, NAN, DType::bf16, Device::cuda);
    auto* const alpha = Tensor(out).data<BFloat16>();
    gate_blend_forward<BFloat16>({.device = Device::cuda, .stream = cu::stream()},
                                 {.rows = count,
                                  .D = s.D,
                                  .h = h.data<BFloat16>() + first * s.D,
                                  .g = g.data<BFloat16>() + first * s.D,
                                  .weight = weight.data<BFloat16>(),
                                  .bias = bias.data<BFloat16>(),
                                  .alpha = alpha,
                                  .y = alpha + count * s.D});
    return out.permute({1, 0, 2}).contiguous();
  });
}

// Where a tensor does not start at 16 bytes.
TEST_CASE("gpu: the gate of tensors out of line", "[gpu][bf16][gate]") {
  if (skip_without_gpu()) return;
  const RowsOfState s{9, 16};
  const Shape shape = {s.rows, s.D};
  Draw draw(5, DType::f64);
  const Operand g(draw.normal(shape)), weight(draw.normal({s.D, 2 * s.D}, 0.2));
  const Operand h = Operand(draw.normal(shape)).shifted(3);
  const Operand alpha("alpha", unset(shape), naive(3));
  const Operand y("y", unset(shape), naive(3));
  check_kernel({&alpha, &y}, [&]<class T>(const Side<T>& on) {
    forward<T>(on, s, h, g, weight, Operand(), alpha, y, nullptr, false);
  });
}
