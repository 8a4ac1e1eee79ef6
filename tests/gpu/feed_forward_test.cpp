// The feed-forward network between products of bfloat16 factors, where its hidden values are bfloat16 too.
#include "autograd/compute.h"
#include "autograd/ops.h"
#include "kernels/linear.h"
#include "tests/cases/case.h"
#include "tests/gpu/kernel_check.h"

using namespace wedge;
using namespace wedge::test;
using cases::Draw;

namespace {

struct Size {
  std::int64_t rows, K, N, M;
};

// y and the gradients of x and the four parameters, from the sum of dy · y.
std::vector<std::vector<double>> run(const std::vector<Tensor>& values, const Tensor& dy) {
  std::vector<Variable> in;
  for (const Tensor& t : values) in.push_back(parameter(t));
  const Variable y = feed_forward(in[0], in[1], in[2], in[3], in[4]);
  y.backward(dy);
  std::vector<std::vector<double>> results = {y.value().to_vector()};
  for (const Variable& v : in) results.push_back(v.grad().to_vector());
  return results;
}

}  // namespace

TEST_CASE("gpu: feed_forward with hidden values in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  // Columns that are moved one by one, eight at a time with tails of rows and of the last columns' tile.
  for (const Size& s : {Size{5, 6, 9, 4}, {1, 8, 8, 8}, {131, 16, 264, 24}}) {
    CAPTURE(s.rows, s.K, s.N, s.M);
    Draw draw(1, DType::f64);
    const auto exact = [](const Tensor& t) { return t.to(DType::bf16); };
    std::vector<Tensor> values = {
        exact(draw.normal({s.rows, s.K}, 2)), exact(draw.normal({s.N, s.K}, 1 / std::sqrt(s.K))),
        exact(draw.normal({s.N})), exact(draw.normal({s.M, s.N}, 1 / std::sqrt(s.N))),
        exact(draw.normal({s.M}))};
    const Tensor dy = exact(draw.normal({s.rows, s.M}));
    std::vector<Tensor> on_cpu, on_gpu;
    for (const Tensor& t : values) {
      on_cpu.push_back(t.to(DType::f64));
      on_gpu.push_back(t.to(DType::f32).to(Device::cuda));
    }
    const auto want = run(on_cpu, dy.to(DType::f64));
    const Bf16ProductsGuard reduced;
    const auto got = run(on_gpu, dy.to(DType::f32).to(Device::cuda));
    // u is rounded before its bias is added, which may leave less of it: it counts twice. Then g is on the
    // way to y and to down's gradient, dg and du on that to dx and to up's gradients.
    const int roundings[] = {3, 4, 4, 4, 3, 0};
    for (std::size_t i = 0; i < want.size(); ++i) {
      CAPTURE(i);
      check_close(got[i], want[i], roundings[i] > 0 ? naive(roundings[i]) : kFloat32);
    }
    CHECK(run(on_gpu, dy.to(DType::f32).to(Device::cuda)) == got);
  }
}

TEST_CASE("gpu: feed_forward of parts of tensors, after its guard, of one variable twice", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  Draw draw(2, DType::f32);
  const std::int64_t N = 8, K = 6;
  std::vector<Tensor> whole;
  for (const Shape& shape : {Shape{N, K}, {N, K}, {N}, {3, N}, {3}})
    whole.push_back(draw.normal(shape).to(Device::cuda));
  const Tensor dy = draw.normal({N, 3}).to(Device::cuda);
  std::vector<Tensor> parts;
  for (const Tensor& t : whole) parts.push_back(part_of(t));
  std::vector<std::vector<double>> want;
  {
    const Bf16ProductsGuard reduced;
    want = run(whole, dy);
    CHECK(run(parts, part_of(dy)) == want);
  }
  std::vector<Variable> in;
  for (const Tensor& t : whole) in.push_back(parameter(t));
  Variable y;
  {
    const Bf16ProductsGuard reduced;
    y = feed_forward(in[0], in[1], in[2], in[3], in[4]);
  }
  y.backward(dy);
  for (std::size_t i = 0; i < in.size(); ++i) CHECK(in[i].grad().to_vector() == want[i + 1]);

  // x and up's weight: its gradient is the sum of both.
  const Bf16ProductsGuard reduced;
  const auto apart = run({whole[0], whole[0], whole[2], whole[3], whole[4]}, dy);
  const Variable both = parameter(whole[0]);
  feed_forward(both, both, parameter(whole[2]), parameter(whole[3]), parameter(whole[4])).backward(dy);
  const std::vector<double> got = both.grad().to_vector();
  for (std::size_t i = 0; i < got.size(); ++i)
    CHECK(got[i] == Approx(apart[1][i] + apart[2][i]).epsilon(1e-5).margin(1e-5));
}

// Where the normalisation after it is all that its output goes to, the gradient is its copy and its sums
// alone.
TEST_CASE("gpu: feed_forward's gradient in bfloat16 alone gives what the whole of it gives", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  const Bf16ProductsGuard reduced;
  for (const bool constant_bias : {false, true})
    for (const std::int64_t D : {6, 8, 200, 520}) {  // the second and third have a kernel that sums
      CAPTURE(D, constant_bias);
      Draw draw(3, DType::f32);
      std::vector<Tensor> values;
      for (const Shape& shape : {Shape{37, D}, {16, D}, {16}, {D, 16}, {D}, {37, D}, {D}, {D}})
        values.push_back(draw.normal(shape).to(Device::cuda));
      const Tensor dy = draw.normal({37, D}).to(Device::cuda), c = draw.normal({37, D}).to(Device::cuda);
      // The gradients of the norm of y, of another function of y, or of both, which is walked last.
      const auto gradients = [&](bool of_norm, bool of_other) {
        std::vector<Variable> in;
        for (std::size_t i = 0; i < values.size(); ++i)
          in.push_back(i == 4 && constant_bias ? Variable(values[i]) : parameter(values[i]));
        const Variable y = feed_forward(in[0], in[1], in[2], in[3], in[4]);
        const Variable other = of_other ? sum(y * Variable(c)) : Variable();
        const Variable norm =
            of_norm ? sum(residual_layernorm(in[5], y, {}, in[6], in[7]) * Variable(dy)) : Variable();
        (!of_norm ? other : of_other ? norm + other : norm).backward();
        std::vector<std::vector<double>> all;
        for (std::size_t i = 0; i < 5; ++i)
          if (in[i].requires_grad()) all.push_back(in[i].grad().to_vector());
        return all;
      };
      // dy, dg and du are rounded on either side
      check_sums(gradients(true, true), gradients(true, false), gradients(false, true), naive(6));
    }
}

TEST_CASE("gpu: GELU of bfloat16 is exact to its last digit", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  // Every eighth bfloat16 from -6 to 6.
  std::vector<double> at;
  for (double x = 0x1p-20; x < 6; x *= 1 + 0x1p-5)
    for (const double sign : {-1.0, 1.0}) at.push_back(sign * x);
  at.resize(at.size() / 8 * 8);
  const auto n = static_cast<std::int64_t>(at.size());
  const Tensor u = Tensor::from(at, {1, n}).to(DType::bf16);
  const Tensor y = Tensor::empty({1, n}, DType::bf16, Device::cuda), on_gpu = u.to(Device::cuda);
  if constexpr (kWithCuda)
    cu::gelu_of_rounded(compute::exec_of(y), {1, n, on_gpu.data<BFloat16>(), nullptr, y.data<BFloat16>()});
  const std::vector<double> xs = u.to_vector(), got = y.to_vector();
  for (std::size_t i = 0; i < xs.size(); ++i) {
    CAPTURE(xs[i]);
    const double want = xs[i] * 0.5 * std::erfc(-xs[i] / std::sqrt(2.0));
    // Half a unit of bfloat16, and the absolute error of the distribution function.
    CHECK(std::abs(got[i] - want) <= std::abs(want) * 0x1p-8 + std::abs(xs[i]) * 1e-7);
  }
}

// Beyond 32,768 rows a warp has more than it asks for at once.
TEST_CASE("gpu: GELU of bfloat16 does not depend on how its elements are laid out", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  constexpr std::int64_t kRows = 33001, kD = 8, kCount = kRows * kD;
  const Tensor u = random_on_gpu({kCount}, 1).to(DType::bf16),
               dy = random_on_gpu({kCount}, 2).to(DType::bf16);
  const auto run = [&](std::int64_t rows, std::int64_t D) {
    const Tensor y = Tensor::empty({kCount}, DType::bf16, Device::cuda),
                 du = Tensor::empty({kCount}, DType::bf16, Device::cuda);
    if constexpr (kWithCuda) {
      const Exec exec = compute::exec_of(y);
      cu::gelu_of_rounded(exec, {rows, D, u.data<BFloat16>(), nullptr, y.data<BFloat16>()});
      cu::gelu_of_rounded_backward(
          exec, {rows, D, u.data<BFloat16>(), nullptr, dy.data<BFloat16>(), du.data<BFloat16>(), {}});
    }
    return std::vector{y.to_vector(), du.to_vector()};
  };
  CHECK(run(kRows, kD) == run(1, kCount));
}
