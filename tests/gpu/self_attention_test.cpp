// Self-attention between two linear layers with products of bfloat16 factors, where q, k and v are bfloat16
// too.
#include "autograd/compute.h"
#include "autograd/ops.h"
#include "tests/cases/case.h"
#include "tests/gpu/kernel_check.h"

using namespace wedge;
using namespace wedge::test;
using cases::Draw;

namespace {

struct Size {
  std::int64_t B, L, K, H, D, M;
};

// y and the gradients of x and the four parameters, from the sum of dy · y, `times` over.
std::vector<std::vector<double>> run(const std::vector<Tensor>& values, const Tensor& dy, std::int64_t heads,
                                     int times = 1) {
  std::vector<Variable> in;
  for (const Tensor& t : values) in.push_back(parameter(t));
  std::vector<std::vector<double>> results;
  for (int i = 0; i < times; ++i) {
    const Variable y = self_attention(in[0], in[1], in[2], in[3], in[4], heads);
    if (i == 0) results.push_back(y.value().to_vector());
    y.backward(dy);
  }
  for (const Variable& v : in) results.push_back(v.grad().to_vector());
  return results;
}

std::vector<Tensor> draw_values(Draw& draw, const Size& s) {
  // q and k of a size that scores, and so the weights' exponents, are of size 1 or less.
  std::vector<Tensor> values = {
      draw.normal({s.B, s.L, s.K}), draw.normal({3 * s.D, s.K}, 0.5 / std::sqrt(s.K)),
      draw.normal({3 * s.D}, 0.5), draw.normal({s.M, s.D}, 1 / std::sqrt(s.D)), draw.normal({s.M})};
  for (Tensor& t : values) t = t.to(DType::bf16);
  return values;
}

}  // namespace

TEST_CASE("gpu: self_attention with hidden values in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  // Sizes that no product or head takes as a whole; heads of 3 and 16, and of 32 and 64 on tensor cores.
  for (const Size& s :
       {Size{1, 3, 5, 1, 6, 4}, {2, 17, 8, 2, 32, 8}, {1, 70, 24, 2, 64, 16}, {2, 33, 16, 1, 64, 8}}) {
    CAPTURE(s.B, s.L, s.K, s.H, s.D, s.M);
    Draw draw(1, DType::f64);
    const std::vector<Tensor> values = draw_values(draw, s);
    const Tensor dy = draw.normal({s.B, s.L, s.M}).to(DType::bf16);
    std::vector<Tensor> on_cpu, on_gpu;
    for (const Tensor& t : values) {
      on_cpu.push_back(t.to(DType::f64));
      on_gpu.push_back(t.to(DType::f32).to(Device::cuda));
    }
    const auto want = run(on_cpu, dy.to(DType::f64), s.H);
    const Bf16ProductsGuard reduced;
    const auto got = run(on_gpu, dy.to(DType::f32).to(Device::cuda), s.H);
    // To y: qkv, softmax's weights, o. Back: do, the weights again, their gradient, dqkv; qkv is on the way
    // to all.
    const int roundings[] = {3, 6, 6, 6, 3, 0};
    for (std::size_t i = 0; i < want.size(); ++i) {
      CAPTURE(i);
      check_close(got[i], want[i], roundings[i] > 0 ? naive(roundings[i]) : kFloat32);
    }
    CHECK(run(on_gpu, dy.to(DType::f32).to(Device::cuda), s.H) == got);
  }
}

TEST_CASE("gpu: self_attention of parts of tensors, after its guard, added to gradients", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  Draw draw(2, DType::f32);
  const Size s{2, 9, 8, 2, 16, 8};
  std::vector<Tensor> whole;
  for (const Tensor& t : draw_values(draw, s)) whole.push_back(t.to(DType::f32).to(Device::cuda));
  const Tensor dy = draw.normal({s.B, s.L, s.M}).to(Device::cuda);
  std::vector<Tensor> parts;
  for (const Tensor& t : whole) parts.push_back(part_of(t));
  std::vector<Variable> in;
  for (const Tensor& t : whole) in.push_back(parameter(t));
  std::vector<std::vector<double>> want, twice;
  Variable y;
  {
    const Bf16ProductsGuard reduced;
    want = run(whole, dy, s.H);
    twice = run(whole, dy, s.H, 2);
    CHECK(run(parts, part_of(dy), s.H) == want);
    y = self_attention(in[0], in[1], in[2], in[3], in[4], s.H);
  }
  y.backward(dy);
  for (std::size_t i = 0; i < in.size(); ++i) {
    CAPTURE(i);
    CHECK(in[i].grad().to_vector() == want[i + 1]);
    for (std::size_t k = 0; k < want[i + 1].size(); ++k)
      CHECK(twice[i + 1][k] == Approx(2 * want[i + 1][k]).epsilon(1e-5).margin(1e-5));
  }
}
