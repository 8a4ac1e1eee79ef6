// Kernels over rows of a hidden state in bfloat16: softmax, dropout, layer normalisation, biases and the
// gate. kernel_check.h has the criterion; the numbers that naive() is given are counted here.
#include "kernels/dropout.h"
#include "kernels/gate_blend.h"
#include "kernels/layernorm.h"
#include "kernels/linear.h"
#include "kernels/softmax.h"
#include "tests/cases/case.h"
#include "tests/gpu/kernel_check.h"

using namespace wedge;
using namespace wedge::test;
using cases::Draw;

namespace {

// Seed, step and micro-step of the masks.
Operand mask_counter() {
  return Operand(Tensor::from(std::vector<std::int64_t>{42, 7, 1}, {3}), DType::i64);
}

}  // namespace

TEST_CASE("gpu: softmax in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  for (const RowsOfState& s : {RowsOfState{1, 1}, {5, 31}, {9, 33}, {2, 1024}, {3, 1027}})
    for (const bool log : {false, true}) {
      CAPTURE(s.rows, s.D, log);
      Draw draw(1, DType::f64);
      const Operand x(draw.normal({s.rows, s.D}, 2));
      // x - m, exp, /; log: x - m, - ln
      const Operand y("y", unset({s.rows, s.D}), naive(log ? 2 : 3));
      check_kernel({&y}, [&]<class T>(const Side<T>& on) {
        softmax_forward<T>(on.exec, {s.rows, s.D, log, on(x), on(y)});
      });
      const Operand value(y.on(Device::cpu)), dy(draw.normal({s.rows, s.D}));
      for (const bool add : {false, true}) {
        CAPTURE(add);
        // dy -, y ·; log: exp(y), ·, dy -
        const Operand dx("dx", before(add, draw.normal({s.rows, s.D})), naive((log ? 3 : 2) + add));
        check_kernel({&dx}, [&]<class T>(const Side<T>& on) {
          softmax_backward<T>(on.exec, {s.rows, s.D, log, on(value), on(dy), {on(dx), add}});
        });
      }
    }
}

TEST_CASE("gpu: dropout in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  const Operand counter = mask_counter();
  for (const std::int64_t n : {1, 31, 1024, 4099})
    for (const std::int64_t shift : {0, 1})
      for (const double rate : {0.0, 0.25})
        for (const bool more : {false, true}) {  // a residual, a gradient that is added to
          CAPTURE(n, shift, rate, more);
          Draw draw(2, DType::f64);
          const Operand x = Operand(draw.normal({n})).shifted(shift);
          const Operand residual = more ? Operand(draw.normal({n})) : Operand();
          const auto mask = [&](const auto& on) { return DropoutMask{rate, 3, on(counter)}; };
          // mask ·, residual +
          const Operand y("y", unset({n}), naive((rate > 0) + more));
          check_kernel({&y}, [&]<class T>(const Side<T>& on) {
            dropout_forward<T>(on.exec, {n, on(x), on(residual), on(y), mask(on)});
          });
          const Operand dx("dx", before(more, draw.normal({n})), naive((rate > 0) + more));
          check_kernel({&dx}, [&]<class T>(const Side<T>& on) {
            dropout_backward<T>(on.exec, {n, on(x), {on(dx), more}, mask(on)});
          });
        }
}

TEST_CASE("gpu: layer normalisation in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  const Operand counter = mask_counter();
  // A warp or a block a row, one or four elements at a time, rows in 2, 4 or 8 registers' groups of 128 and
  // between, more rows than the warps that stay, rows that do not fit shared memory.
  for (const RowsOfState& s : {RowsOfState{1, 5},
                               {9, 32},
                               {70, 33},
                               {200, 8},
                               {5, 255},
                               {1, 256},
                               {24, 256},
                               {3, 260},
                               {9, 512},
                               {3, 516},
                               {9, 1024},
                               {4300, 4},
                               {3, 1027},
                               {2, 1028},
                               {1, 24584}})
    for (const bool residual_and_mask : {false, true})
      for (const std::int64_t shift : {0, 1}) {
        if (s.rows > 1000 && (!residual_and_mask || shift != 0)) continue;  // once: it takes long
        CAPTURE(s.rows, s.D, residual_and_mask, shift);
        const Shape shape = {s.rows, s.D};
        Draw draw(3, DType::f64);
        const Operand x = Operand(draw.normal(shape, 1, 0.5)).shifted(shift);
        const Operand residual = residual_and_mask ? Operand(draw.normal(shape)) : Operand();
        const Operand weight(draw.normal({s.D})), bias(draw.normal({s.D}));
        const auto mask = [&](const auto& on) {
          return DropoutMask{residual_and_mask ? 0.25 : 0.0, 3, on(counter)};
        };
        // s: mask ·, residual +. y, from s: - mean, · rstd, · weight, + bias.
        const Operand sum = residual_and_mask ? Operand("s", unset(shape), naive(2)) : Operand();
        const Operand y("y", unset(shape), naive((residual_and_mask ? 2 : 0) + 4));
        const Operand mean("mean", unset({s.rows}), kFloat32, DType::f32);
        const Operand rstd("rstd", unset({s.rows}), kFloat32, DType::f32);
        check_kernel({&sum, &y, &mean, &rstd}, [&]<class T>(const Side<T>& on) {
          layernorm_forward<T>(on.exec, {.rows = s.rows,
                                         .D = s.D,
                                         .x = on(x),
                                         .residual = on(residual),
                                         .mask = mask(on),
                                         .weight = on(weight),
                                         .bias = on(bias),
                                         .eps = 1e-5,
                                         .s = on(sum),
                                         .y = on(y),
                                         .mean = on(mean),
                                         .rstd = on(rstd)});
        });

        const Operand kept = Operand(sum.defined() ? sum.on(Device::cpu) : x.on(Device::cpu)).shifted(shift);
        const Operand kept_mean(mean.on(Device::cpu), DType::f32),
            kept_rstd(rstd.on(Device::cpu), DType::f32);
        const Operand dy(draw.normal(shape));
        for (const bool add : {false, true}) {
          CAPTURE(add);
          const Tensor start = before(add, draw.normal(shape)), start_row = before(add, draw.normal({s.D}));
          // s - mean, · rstd, · mean(g x̂), g -, · rstd; mask ·; +
          const Operand dx("dx", start, naive(5 + residual_and_mask + add));
          const Operand dresidual =
              residual_and_mask ? Operand("dresidual", start, naive(5 + add)) : Operand();
          const Operand dweight("dweight", start_row, kFloat32, DType::f32);
          const Operand dbias("dbias", start_row, kFloat32, DType::f32);
          check_kernel({&dx, &dresidual, &dweight, &dbias}, [&]<class T>(const Side<T>& on) {
            layernorm_backward<T>(on.exec, {.rows = s.rows,
                                            .D = s.D,
                                            .dy = on(dy),
                                            .s = on(kept),
                                            .mean = on(kept_mean),
                                            .rstd = on(kept_rstd),
                                            .weight = on(weight),
                                            .mask = mask(on),
                                            .dx = {on(dx), add},
                                            .dresidual = {on(dresidual), add},
                                            .dweight = {on(dweight), add},
                                            .dbias = {on(dbias), add}});
          });
        }
      }
}

// x and the residual are one variable, weight and bias another: two gradients go to one place.
TEST_CASE("gpu: layer normalisation's gradients in one place", "[gpu]") {
  if (skip_without_gpu()) return;
  const Operand counter = mask_counter();
  for (const RowsOfState& s : {RowsOfState{33, 12}, {20, 300}, {9, 1000}, {4, 30}, {3, 1028}})
    for (const bool add : {false, true}) {
      CAPTURE(s.rows, s.D, add);
      const Shape shape = {s.rows, s.D};
      Draw draw(5, DType::f64);
      const Operand dy(draw.normal(shape), DType::f32), kept(draw.normal(shape), DType::f32);
      const Operand mean(draw.normal({s.rows}), DType::f32), rstd(Tensor::full({s.rows}, 0.5), DType::f32);
      const Operand weight(draw.normal({s.D}), DType::f32);
      const Operand dx("dx", before(add, draw.normal(shape)), kFloat32, DType::f32);
      const Operand dparameter("dparameter", before(add, draw.normal({s.D})), kFloat32, DType::f32);
      check_kernel<float>({&dx, &dparameter}, [&]<class T>(const Side<T>& on) {
        layernorm_backward<T>(on.exec, {.rows = s.rows,
                                        .D = s.D,
                                        .dy = on(dy),
                                        .s = on(kept),
                                        .mean = on(mean),
                                        .rstd = on(rstd),
                                        .weight = on(weight),
                                        .mask = DropoutMask{0.25, 3, on(counter)},
                                        .dx = {on(dx), true},
                                        .dresidual = {on(dx), add},
                                        .dweight = {on(dparameter), add},
                                        .dbias = {on(dparameter), true}});
      });
    }
}

// Their mean is what they are, to the last digit, though 1/1000 is not.
TEST_CASE("gpu: rows of equal numbers are normalised to nothing", "[gpu]") {
  if (skip_without_gpu()) return;
  for (const std::int64_t D : {200, 256, 1000}) {
    CAPTURE(D);
    const Operand x(Tensor::full({9, D}, 3), DType::f32), ones(Tensor::full({D}, 1), DType::f32),
        zeros(Tensor::zeros({D}), DType::f32), mean("mean", Tensor::zeros({9}), naive(0), DType::f32),
        rstd("rstd", Tensor::zeros({9}), kFloat32, DType::f32),
        y("y", Tensor::zeros({9, D}), naive(0), DType::f32);
    check_kernel<float>({&y, &mean, &rstd}, [&]<class T>(const Side<T>& on) {
      LayernormForward<T> args{};
      args.rows = 9, args.D = D, args.eps = 1e-5;
      args.x = on(x), args.weight = on(ones), args.bias = on(zeros);
      args.y = on(y), args.mean = on(mean), args.rstd = on(rstd);
      layernorm_forward<T>(on.exec, args);
    });
  }
}

TEST_CASE("gpu: bias and GELU in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  for (const RowsOfState& s : {RowsOfState{1, 1}, {7, 31}, {70, 33}, {200, 96}})
    for (const bool with_bias : {false, true}) {
      CAPTURE(s.rows, s.D, with_bias);
      const Shape shape = {s.rows, s.D};
      Draw draw(4, DType::f64);
      const Operand bias = with_bias ? Operand(draw.normal({s.D})) : Operand();
      // bias +, gelu
      const Operand u("u", draw.normal(shape), naive(with_bias));
      const Operand y("y", unset(shape), naive(with_bias + 1));
      check_kernel({&u, &y}, [&]<class T>(const Side<T>& on) {
        bias_gelu_forward<T>(on.exec, {s.rows, s.D, on(bias), on(u), on(y)});
      });
      const Operand kept(u.on(Device::cpu)), dy(draw.normal(shape));
      for (const bool add : {false, true}) {
        CAPTURE(add);
        // φ(u), u ·, Φ(u) +, dy ·
        const Operand du("du", unset(shape), naive(4));
        const Operand dbias =
            with_bias ? Operand("dbias", before(add, draw.normal({s.D})), kFloat32, DType::f32) : Operand();
        check_kernel({&du, &dbias}, [&]<class T>(const Side<T>& on) {
          bias_gelu_backward<T>(on.exec, {s.rows, s.D, on(kept), on(dy), on(du), {on(dbias), add}});
        });
        // In bfloat16 alone, of float32 tensors.
        const Operand rounded("du, rounded", unset(shape), naive(1));
        const Operand u32(kept.on(Device::cpu), DType::f32), dy32(dy.on(Device::cpu), DType::f32);
        check_kernel<float>({&rounded}, [&]<class T>(const Side<T>& on) {
          BiasGeluBackward<T> args{};
          args.rows = s.rows, args.D = s.D, args.u = on(u32), args.dy = on(dy32);
          if (on.exec.device == Device::cuda)
            args.du_rounded = on(rounded);
          else
            args.du = on(rounded);
          bias_gelu_backward<T>(on.exec, args);
        });
      }
    }
}

TEST_CASE("gpu: the gate in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  for (const RowsOfState& s : {RowsOfState{1, 1}, {7, 31}, {70, 33}, {200, 96}})
    for (const bool with_bias : {false, true}) {
      CAPTURE(s.rows, s.D, with_bias);
      const Shape shape = {s.rows, s.D};
      Draw draw(5, DType::f64);
      const Operand h(draw.normal(shape)), g(draw.normal(shape));
      const Operand bias = with_bias ? Operand(draw.normal({s.D})) : Operand();
      // bias +, sigmoid; 1 -, · g, +
      const Operand alpha("alpha", draw.normal(shape), naive(with_bias + 1));
      const Operand y("y", unset(shape), naive(with_bias + 4));
      check_kernel({&alpha, &y}, [&]<class T>(const Side<T>& on) {
        blend_forward<T>(on.exec, {s.rows, s.D, on(h), on(g), on(bias), on(alpha), on(y)});
      });
      const Operand kept(alpha.on(Device::cpu)), dy(draw.normal(shape));
      for (const bool add : {false, true})
        for (const bool all : {false, true}) {
          CAPTURE(add, all);
          // du: h - g, dy ·, · alpha, · (1 - alpha). dh: dy · alpha. dg: 1 - alpha, dy ·.
          const Operand du("du", unset(shape), naive(4));
          const Operand dh = all ? Operand("dh", before(add, draw.normal(shape)), naive(1 + add)) : Operand();
          const Operand dg("dg", before(add, draw.normal(shape)), naive(2 + add));
          const Operand dbias =
              all ? Operand("dbias", before(add, draw.normal({s.D})), kFloat32, DType::f32) : Operand();
          check_kernel({&du, &dh, &dg, &dbias}, [&]<class T>(const Side<T>& on) {
            blend_backward<T>(on.exec, {.rows = s.rows,
                                        .D = s.D,
                                        .h = on(h),
                                        .g = on(g),
                                        .alpha = on(kept),
                                        .dy = on(dy),
                                        .du = on(du),
                                        .dh = {on(dh), add},
                                        .dg = {on(dg), add},
                                        .dbias = {on(dbias), add}});
          });
          // In bfloat16 alone, of float32 tensors.
          const Operand rounded("du, rounded", unset(shape), naive(1));
          const Operand h32(h.on(Device::cpu), DType::f32), g32(g.on(Device::cpu), DType::f32);
          const Operand alpha32(kept.on(Device::cpu), DType::f32), dy32(dy.on(Device::cpu), DType::f32);
          check_kernel<float>({&rounded}, [&]<class T>(const Side<T>& on) {
            BlendBackward<T> args{};
            args.rows = s.rows, args.D = s.D;
            args.h = on(h32), args.g = on(g32), args.alpha = on(alpha32), args.dy = on(dy32);
            if (on.exec.device == Device::cuda)
              args.du_rounded = on(rounded);
            else
              args.du = on(rounded);
            blend_backward<T>(on.exec, args);
          });
        }
    }
}
