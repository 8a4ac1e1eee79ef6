// The gate with its layer normalisation in one kernel, between products of bfloat16 factors.
#include "autograd/compute.h"
#include "autograd/ops.h"
#include "tests/cases/case.h"
#include "tests/gpu/kernel_check.h"

using namespace wedge;
using namespace wedge::test;
using cases::Draw;

namespace {

Variable forward(const std::vector<Variable>& in, const Dropout& drop) {
  return gate_layernorm(in[0], in[1], in[2], in.size() > 5 ? in[5] : Variable(), in[3], in[4], drop);
}

// y and the gradients of h, g, weight, norm_weight, norm_bias and bias, from the sum of dy · y, `times` over.
std::vector<std::vector<double>> run(const std::vector<Tensor>& values, const Tensor& dy, const Dropout& drop,
                                     int times = 1) {
  std::vector<Variable> in;
  for (const Tensor& t : values) in.push_back(parameter(t));
  std::vector<std::vector<double>> results;
  for (int i = 0; i < times; ++i) {
    const Variable y = forward(in, drop);
    if (i == 0) results.push_back(y.value().to_vector());
    y.backward(dy);
  }
  for (const Variable& v : in) results.push_back(v.grad().to_vector());
  return results;
}

// h, g, weight, norm_weight, norm_bias, bias
std::vector<Tensor> draw_values(Draw& draw, const RowsOfState& s, bool bias) {
  std::vector<Tensor> values = {draw.normal({s.rows, s.D}), draw.normal({s.rows, s.D}),
                                draw.normal({s.D, 2 * s.D}, 1 / std::sqrt(s.D)),
                                draw.uniform({s.D}, 0.5, 1.5), draw.normal({s.D})};
  if (bias) values.push_back(draw.normal({s.D}));
  return values;
}

std::vector<Tensor> on_gpu(const std::vector<Tensor>& values) {
  std::vector<Tensor> there;
  for (const Tensor& t : values) there.push_back(t.to(DType::f32).to(Device::cuda));
  return there;
}

Dropout dropout_on(Device device, double rate) {
  return {rate, 5, Tensor::from<std::int64_t>({77, 3, 1}, {3}).to(device)};
}

// du of every row, [rows, D]: the bias's gradient of that row alone, `dy` with the mask in it.
std::vector<double> du_of(const std::vector<Tensor>& values, const Tensor& dy) {
  std::vector<double> du;
  for (std::int64_t t = 0; t < dy.size(0); ++t) {
    std::vector<Tensor> row = values;
    for (Tensor* x : {&row[0], &row[1]}) *x = x->slice(0, t, t + 1);
    if (row.size() < 6) row.push_back(Tensor::zeros({dy.size(1)}, DType::f64));
    const std::vector<double> of_row = run(row, dy.slice(0, t, t + 1), {}).back();
    du.insert(du.end(), of_row.begin(), of_row.end());
  }
  return du;
}

// What the rounding of du, by at most 2^-8 of itself, can do to the gradients of h, g and weight: 2^-8 Σ of
// their terms' magnitudes.
std::vector<std::vector<double>> room_for(const std::vector<double>& du, const std::vector<Tensor>& values) {
  const auto rows = static_cast<std::size_t>(values[0].size(0)),
             D = static_cast<std::size_t>(values[0].size(1));
  const std::vector<double> h = values[0].to_vector(), g = values[1].to_vector(), w = values[2].to_vector();
  std::vector<std::vector<double>> room = {std::vector(rows * D, 0.0), std::vector(rows * D, 0.0),
                                           std::vector(D * 2 * D, 0.0)};
  for (std::size_t t = 0; t < rows; ++t)
    for (std::size_t i = 0; i < D; ++i)
      for (std::size_t k = 0; k < D; ++k) {
        const double size = 0x1p-8 * std::abs(du[t * D + i]);
        room[0][t * D + k] += size * std::abs(w[i * 2 * D + k]);
        room[1][t * D + k] += size * std::abs(w[i * 2 * D + D + k]);
        room[2][i * 2 * D + k] += size * std::abs(h[t * D + k]);
        room[2][i * 2 * D + D + k] += size * std::abs(g[t * D + k]);
      }
  return room;
}

}  // namespace

TEST_CASE("gpu: the gate and its normalisation in one kernel", "[gpu][bf16][gate]") {
  if (skip_without_gpu()) return;
  // One to three blocks of 32 rows; tiles of 32 columns with tails, odd and even numbers of them, and the
  // widest.
  for (const RowsOfState& s : {RowsOfState{1, 8}, {32, 32}, {33, 40}, {65, 136}, {3, 256}})
    for (const double rate : {0.0, 0.3}) {
      const bool bias = rate > 0 || s.D != 40;
      CAPTURE(s.rows, s.D, rate, bias);
      Draw draw(1, DType::f64);
      std::vector<Tensor> values = draw_values(draw, s, bias);
      for (Tensor& t : values) t = in_bf16(t);
      const Tensor dy = draw.normal({s.rows, s.D}).to(DType::f32);
      const auto want = run(values, dy.to(DType::f64), dropout_on(Device::cpu, rate));
      const Bf16ProductsGuard reduced;
      const Dropout drop = dropout_on(Device::cuda, rate);
      const auto got = run(on_gpu(values), dy.to(Device::cuda), drop);
      // The sums over rows are of du as it was before it was rounded.
      const Tensor masked = dropout(Variable(dy.to(DType::f64)), dropout_on(Device::cpu, rate)).value();
      const auto room = room_for(du_of(values, masked), values);
      for (std::size_t i = 0; i < want.size(); ++i) {
        CAPTURE(i);
        if (i < 1 || i > 3) {
          check_close(got[i], want[i], kFloat32);
          continue;
        }
        double worst = 0;
        for (std::size_t k = 0; k < want[i].size(); ++k)
          worst = std::max(worst, std::abs(got[i][k] - want[i][k]) /
                                      (room[i - 1][k] + kFloat32.worst * (1 + std::abs(want[i][k]))));
        CHECK(worst <= 1);
        CHECK(worst > 0.01);  // else the products would not be of bfloat16 at all
      }
#if defined(WEDGE_EMULATOR)
      emulator::set_seed(emulator::draw());
#endif
      CHECK(run(on_gpu(values), dy.to(Device::cuda), drop) == got);
    }
}

#if defined(WEDGE_EMULATOR)
TEST_CASE("gpu: gate_layernorm is one kernel forward and three backward", "[gpu][bf16][gate]") {
  Draw draw(4, DType::f32);
  const RowsOfState s{33, 32};
  std::vector<Variable> in;
  for (const Tensor& t : on_gpu(draw_values(draw, s, true))) in.push_back(parameter(t));
  const Tensor dy = draw.normal({s.rows, s.D}).to(Device::cuda);
  const Bf16ProductsGuard reduced;
  forward(in, {});  // makes the weight's copy
  const std::uint64_t before = emulator::calls();
  const Variable y = forward(in, {});
  CHECK(emulator::calls() - before == 1);
  y.backward(dy);
  CHECK(emulator::calls() - before <= 4);
}
#endif

#if defined(WEDGE_EMULATOR)
TEST_CASE("gpu: gate_layernorm is made of its parts where a block has too little shared memory",
          "[gpu][bf16][gate]") {
  const LessSharedMemory less(163 * 1024);
  Draw draw(5, DType::f64);
  const RowsOfState s{9, 32};
  std::vector<Tensor> values = draw_values(draw, s, true);
  for (Tensor& t : values) t = in_bf16(t);
  const Tensor dy = draw.normal({s.rows, s.D}).to(DType::f32);
  const auto want = run(values, dy.to(DType::f64), {});
  const Bf16ProductsGuard reduced;
  const auto got = run(on_gpu(values), dy.to(Device::cuda), {});
  check_close(got[0], want[0], kFloat32);
  for (std::size_t i = 4; i < want.size(); ++i) check_close(got[i], want[i], kFloat32);
}
#endif

// A row of g that is norm_weight and norm_bias and bias too: what its gradient is rounded to and summed from
// would lack their parts.
TEST_CASE("gpu: gate_layernorm of one row that is a parameter as well", "[gpu][bf16][gate]") {
  if (skip_without_gpu()) return;
  Draw draw(6, DType::f32);
  const std::int64_t D = 16, K = 8;
  const auto exact = [&](Shape shape, double scale) {
    return draw.normal(std::move(shape), scale).to(DType::bf16);
  };
  const Tensor x = exact({K}, 1), w = exact({D, K}, 0.3), b = exact({D}, 1), h = exact({D}, 1),
               gate = exact({D, 2 * D}, 0.2), dy = exact({D}, 1);
  for (const bool is_gate : {false, true}) {
    CAPTURE(is_gate);
    const auto gradients = [&](Device device, DType dtype) {
      const auto on = [&](const Tensor& t) { return t.to(dtype).to(device); };
      const Variable weight = parameter(on(w)), bias = parameter(on(b));
      const Variable y = linear(Variable(on(x)), weight, bias);
      const Variable z =
          is_gate ? gate_layernorm(Variable(on(h)), y, Variable(on(gate)), y, y, y, {}) : layernorm(y, y, y);
      z.backward(on(dy));
      return std::vector{weight.grad().to_vector(), bias.grad().to_vector()};
    };
    const auto want = gradients(Device::cpu, DType::f64);
    const Bf16ProductsGuard reduced;
    const auto got = gradients(Device::cuda, DType::f32);
    for (std::size_t i = 0; i < want.size(); ++i) check_close(got[i], want[i], naive(3));
  }
}

TEST_CASE("gpu: gate_layernorm without a graph, added to gradients, after its guard", "[gpu][bf16][gate]") {
  if (skip_without_gpu()) return;
  Draw draw(2, DType::f32);
  const RowsOfState s{35, 48};
  const std::vector<Tensor> values = on_gpu(draw_values(draw, s, true));
  const Tensor dy = draw.normal({s.rows, s.D}).to(Device::cuda);
  const Dropout drop = dropout_on(Device::cuda, 0.2);
  std::vector<std::vector<double>> once, twice;
  std::vector<Variable> in;
  for (const Tensor& t : values) in.push_back(parameter(t));
  Variable y;
  {
    const Bf16ProductsGuard reduced;
    once = run(values, dy, drop);
    twice = run(values, dy, drop, 2);
    y = forward(in, drop);
    const NoGradGuard no_grad;
    CHECK(forward(in, drop).value().to_vector() == once[0]);
  }
  y.backward(dy);
  for (std::size_t i = 0; i < in.size(); ++i) {
    CAPTURE(i);
    CHECK(in[i].grad().to_vector() == once[i + 1]);
    for (std::size_t k = 0; k < once[i + 1].size(); ++k)
      CHECK(twice[i + 1][k] == Approx(2 * once[i + 1][k]).epsilon(1e-5).margin(1e-5));
  }
}

TEST_CASE("gpu: gate_layernorm of one variable twice, of slices, of what is constant", "[gpu][bf16][gate]") {
  if (skip_without_gpu()) return;
  Draw draw(3, DType::f32);
  const RowsOfState s{9, 16};
  const std::vector<Tensor> values = on_gpu(draw_values(draw, s, true));
  const Tensor dy = draw.normal({s.rows, s.D}).to(Device::cuda);
  const Bf16ProductsGuard reduced;
  const auto apart = run(values, dy, {});

  // Dense, but from an address on that takes no 16 bytes at once.
  const auto part_of = [](const Tensor& t) {
    const Tensor room = Tensor::zeros({t.numel() + 1}).to(Device::cuda);
    Tensor part = room.slice(0, 1, t.numel() + 1).reshape(t.shape());
    part.copy_from(t);
    return part;
  };
  std::vector<Tensor> parts;
  for (const Tensor& t : values) parts.push_back(part_of(t));
  CHECK(run(parts, part_of(dy), {}) == apart);

  // Each input alone: what is constant gets no gradient, the others what they had.
  for (std::size_t alone = 0; alone < values.size(); ++alone) {
    CAPTURE(alone);
    std::vector<Variable> in;
    for (std::size_t i = 0; i < values.size(); ++i)
      in.push_back(i == alone ? parameter(values[i]) : Variable(values[i]));
    forward(in, {}).backward(dy);
    CHECK(in[alone].grad().to_vector() == apart[alone + 1]);
  }

  // One variable as h and g, and one as norm_weight, norm_bias and bias.
  const std::vector<Tensor> same = {values[0], values[0], values[2], values[3], values[3], values[3]};
  const auto want = run(same, dy, {});
  const Variable h = parameter(values[0]), weight = parameter(values[2]), vector = parameter(values[3]);
  forward({h, h, weight, vector, vector, vector}, {}).backward(dy);
  const std::vector<double> dh = h.grad().to_vector(), dv = vector.grad().to_vector();
  for (std::size_t i = 0; i < dh.size(); ++i)
    CHECK(dh[i] == Approx(want[1][i] + want[2][i]).epsilon(1e-5).margin(1e-5));
  for (std::size_t i = 0; i < dv.size(); ++i)
    CHECK(dv[i] == Approx(want[4][i] + want[5][i] + want[6][i]).epsilon(1e-5).margin(1e-5));
}

// Where plucker_linear's output goes nowhere else, its gradient may be a copy and sums alone.
TEST_CASE("gpu: plucker_linear's gradient in bfloat16 alone gives what the whole of it gives",
          "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  const std::int64_t R = 6;
  for (const auto& [D, gated] : {std::pair<std::int64_t, bool>{16, true}, {16, false}, {12, false}}) {
    CAPTURE(D, gated);  // with 12 columns the products need a copy with room
    Draw draw(5, DType::f32);
    std::vector<Tensor> values;
    for (const Shape& shape :
         {Shape{2, 20, R}, {D, R * (R - 1) / 2}, {D}, {2, 20, D}, {D, 2 * D}, {D}, {D}, {D}})
      values.push_back(draw.normal(shape).to(Device::cuda));
    const Tensor dy = draw.normal({2, 20, D}).to(Device::cuda), c = draw.normal({2, 20, D}).to(Device::cuda);
    // The gradients of what is made of g, of another function of g, or of both, which is walked last.
    const auto gradients = [&](bool of_norm, bool of_other, bool backward_in_guard) {
      std::vector<Variable> in;
      for (const Tensor& t : values) in.push_back(parameter(t));
      Variable loss;
      {
        const Bf16ProductsGuard reduced;
        const Variable g = plucker_linear(in[0], in[1], in[2], {1, 3});
        const Variable other = of_other ? sum(g * Variable(c)) : Variable();
        if (of_norm) {
          const Variable y = gated ? gate_layernorm(in[3], g, in[4], in[5], in[6], in[7], {})
                                   : residual_layernorm(in[3], g, {}, in[6], in[7]);
          loss = sum(y * Variable(dy));
        }
        loss = !of_norm ? other : of_other ? loss + other : loss;
      }
      const Bf16ProductsGuard reduced(backward_in_guard);
      loss.backward();
      std::vector<std::vector<double>> all;
      for (std::size_t i = 0; i < 3; ++i) all.push_back(in[i].grad().to_vector());
      return all;
    };
    for (const bool in_guard : {true, false}) {
      CAPTURE(in_guard);
      // dg and the weight are rounded on either side
      check_sums(gradients(true, true, in_guard), gradients(true, false, in_guard),
                 gradients(false, true, in_guard), naive(4));
    }
  }
}
