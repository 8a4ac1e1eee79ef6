// The bfloat16 copies of weights that products read: always those of the present values.
#include <cmath>

#include "autograd/ops.h"
#include "models/optimizer.h"
#include "tensor/rng.h"
#include "tests/support/catch.h"
#include "tests/support/gpu.h"

using namespace wedge;

namespace {

Tensor on_gpu(Shape shape, std::uint64_t seed) {
  Rng rng(seed);
  return Tensor::normal(std::move(shape), rng, 0, 1).to(Device::cuda);
}

std::vector<double> copy_of(const Tensor& weight) {
  weight.bf16_copy();
  // Read through a tensor of its own: the copy is only a pointer.
  const Tensor out = Tensor::empty(weight.shape(), DType::bf16, Device::cuda);
  cu::copy_bytes(out.raw(), Device::cuda, weight.bf16_copy(), Device::cuda,
                 static_cast<std::size_t>(weight.numel()) * sizeof(BFloat16));
  return out.to_vector();
}

}  // namespace

TEST_CASE("gpu: a weight's bfloat16 copy follows every change of the weight", "[gpu][bf16]") {
  if (test::skip_without_gpu()) return;
  const Variable weight = parameter(on_gpu({5, 7}, 1));
  const auto is_current = [&] {
    return copy_of(weight.value()) == weight.value().to(DType::bf16).to_vector();
  };
  CHECK(is_current());
  weight.set_value(on_gpu({5, 7}, 2));
  CHECK(is_current());

  AdamW optimizer({{"weight", weight}}, {});
  for (int step = 0; step < 3; ++step) {
    const Bf16ProductsGuard reduced;
    mean(square(linear(Variable(on_gpu({4, 7}, 3)), weight))).backward();
    optimizer.step(0.1);
    CHECK(weight.value().bf16_target() != nullptr);
    CHECK(is_current());
    optimizer.zero_grad();
  }
  // A step that does nothing leaves the copy right too.
  mean(square(linear(Variable(on_gpu({4, 7}, 3)), weight))).backward();
  Tensor(weight.grad()).fill(HUGE_VAL);
  optimizer.step(0.1);
  CHECK(is_current());
}

TEST_CASE("gpu: products with kept copies are those with fresh ones", "[gpu][bf16]") {
  if (test::skip_without_gpu()) return;
  const Bf16ProductsGuard reduced;
  const Variable h = parameter(on_gpu({3, 4}, 1)), g = parameter(on_gpu({3, 4}, 2));
  const Variable weight = parameter(on_gpu({4, 8}, 3)), bias = parameter(on_gpu({4}, 4));
  const auto run = [&](const Variable& w) {
    const Variable y = gate_blend(h, g, w, bias);
    y.backward(on_gpu({3, 4}, 5));
    std::vector<std::vector<double>> all = {y.value().to_vector()};
    for (const Variable& v : {h, g, w, bias}) {
      all.push_back(v.grad().to_vector());
      v.zero_grad();
    }
    return all;
  };
  const auto first = run(weight), again = run(weight);  // the second finds the copy
  CHECK(first == again);
  CHECK(run(parameter(weight.value().clone())) == first);
  const auto exact = [&] {
    const Bf16ProductsGuard off(false);
    return run(weight);
  }();
  CHECK(exact != first);
}

TEST_CASE("gpu: a part of a weight has no kept copy, and serves all the same", "[gpu][bf16]") {
  if (test::skip_without_gpu()) return;
  const Bf16ProductsGuard reduced;
  const Tensor weight = on_gpu({6, 5}, 1), x = on_gpu({2, 5}, 2);
  CHECK(weight.slice(0, 1, 4).bf16_copy() == nullptr);
  CHECK(linear(x, weight.slice(0, 1, 4)).value().to_vector() ==
        linear(x, weight.slice(0, 1, 4).clone()).value().to_vector());
}
