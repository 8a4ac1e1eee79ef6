// The bfloat16 copies of weights and activations that products read: always those of the present values.
#include <algorithm>
#include <cmath>

#include "autograd/ops.h"
#include "models/optimizer.h"
#include "tensor/bf16_copy.h"
#include "tensor/cuda/graph.h"
#include "tensor/rng.h"
#include "tests/support/catch.h"
#include "tests/support/gpu.h"

using namespace wedge;

namespace {

const auto& on_gpu = test::random_on_gpu;

std::vector<double> copy_of(const Tensor& weight) {
  Bf16Copy(weight).weight();
  // Read through a tensor of its own: the copy is only a pointer.
  const Tensor out = Tensor::empty(weight.shape(), DType::bf16, Device::cuda);
  cu::copy_bytes(out.raw(), Device::cuda, Bf16Copy(weight).weight(), Device::cuda,
                 static_cast<std::size_t>(weight.numel()) * sizeof(BFloat16));
  return out.to_vector();
}

// New memory is NaN.
struct GuardBands {
  GuardBands() { set_guard_bands(true); }
  ~GuardBands() { set_guard_bands(false); }
  GuardBands(const GuardBands&) = delete;
  GuardBands& operator=(const GuardBands&) = delete;
};

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
    CHECK(Bf16Copy(weight.value()).target() != nullptr);
    CHECK(is_current());
    optimizer.zero_grad();
  }
  // A step that does nothing leaves the copy right too.
  mean(square(linear(Variable(on_gpu({4, 7}, 3)), weight))).backward();
  weight.grad().fill(HUGE_VAL);
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
  CHECK(Bf16Copy(weight.slice(0, 1, 4)).weight() == nullptr);
  CHECK(linear(x, weight.slice(0, 1, 4)).value().to_vector() ==
        linear(x, weight.slice(0, 1, 4).clone()).value().to_vector());
}

TEST_CASE("gpu: a weight's bfloat16 copy has rows of zeros where they are asked for", "[gpu][bf16]") {
  if (test::skip_without_gpu()) return;
  const GuardBands poisoned;
  const Tensor weight = on_gpu({70, 3}, 1);
  const auto all_rows = [](const Tensor& w) {
    const Tensor out = Tensor::empty({Bf16Copy(w).rows(), w.size(1)}, DType::bf16, Device::cuda);
    cu::copy_bytes(out.raw(), Device::cuda, Bf16Copy(w).target(), Device::cuda,
                   static_cast<std::size_t>(out.numel()) * sizeof(BFloat16));
    return out.to_vector();
  };
  const auto padded = [](const Tensor& w) {
    std::vector<double> want = w.to(DType::bf16).to_vector();
    want.resize(72 * 3);
    return want;
  };
  Bf16Copy(weight).weight(8);
  CHECK(Bf16Copy(weight).rows() == 72);
  CHECK(all_rows(weight) == padded(weight));
  weight.copy_from(on_gpu({70, 3}, 2));  // made anew, and there as before
  Bf16Copy(weight).weight();
  CHECK(all_rows(weight) == padded(weight));
  CHECK(Bf16Copy(weight.reshape({35, 6})).weight(8) == Bf16Copy(weight).target());
  CHECK(Bf16Copy(weight.reshape({35, 6})).rows() == 36);
  // Those who came first did not ask for them.
  const Tensor other = on_gpu({70, 3}, 3);
  Bf16Copy(other).weight();
  CHECK(Bf16Copy(other).weight(8) == Bf16Copy(other).target());
  CHECK(Bf16Copy(other).rows() == 70);
}

// V is no multiple of 8; memory starts as NaN, which would show in all that padding columns reach.
TEST_CASE("gpu: the head's loss in a graph, with padded classes", "[gpu][bf16][graph]") {
  if (test::skip_without_gpu()) return;
  const GuardBands poisoned;
  const Bf16ProductsGuard reduced;
  const Tensor x = on_gpu({37, 6}, 1), targets = Tensor::zeros({37}, DType::i32).to(Device::cuda);
  const Variable in = parameter(x), weight = parameter(on_gpu({70, 6}, 2));
  const auto results = [&](const Variable& loss) {
    std::vector<std::vector<double>> all = {loss.value().to_vector()};
    for (const Variable& v : {in, weight}) all.push_back(v.grad().to_vector());
    for (const std::vector<double>& values : all)
      CHECK(std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); }));
    return all;
  };
  const MemoryPool pool;
  Variable loss;
  const auto body = [&] {
    in.zero_grad();
    weight.zero_grad();
    loss = linear_cross_entropy(in, weight, targets);
    loss.backward();
  };
  body();
  const auto eager = results(loss);
  CHECK(Bf16Copy(weight.value()).rows() == 72);
  body();
  CHECK(results(loss) == eager);
  cu::Graph graph;
  {
    const MemoryPool::Scope scope(pool);
    body();
    graph = cu::Graph::capture(body);
  }
  graph.replay();
  CHECK(results(loss) == eager);
  x.copy_from(on_gpu({37, 6}, 3));
  graph.replay();
  const auto replayed = results(loss);
  CHECK(replayed != eager);
  body();
  CHECK(results(loss) == replayed);
}

TEST_CASE("gpu: an activation is rounded once for all products that read it", "[gpu][bf16]") {
  if (test::skip_without_gpu()) return;
  const Bf16ProductsGuard reduced;
  const Tensor x = on_gpu({3, 5}, 1);
  const BFloat16* const copy = Bf16Copy(x).activation();
  REQUIRE(copy != nullptr);
  // What the products read is the copy: one that is not of the values shows in forward and in dweight.
  const Variable weight = parameter(on_gpu({4, 5}, 2));
  const auto run = [&](const Tensor& in) {
    const Variable y = linear(in, weight);
    y.backward(on_gpu({3, 4}, 3));
    const std::vector<std::vector<double>> all = {y.value().to_vector(), weight.grad().to_vector()};
    weight.zero_grad();
    return all;
  };
  const auto right = run(x);
  const Tensor other = on_gpu({3, 5}, 4), other_rounded = other.to(DType::bf16);
  cu::copy_bytes(Bf16Copy(x).target(), Device::cuda, other_rounded.raw(), Device::cuda,
                 15 * sizeof(BFloat16));
  CHECK(run(x) == run(other));
  x.copy_from(x.clone());  // a new version of the same values
  CHECK(run(x) == right);
  CHECK(Bf16Copy(x).activation() == copy);
}

TEST_CASE("gpu: a copy that a tensor shares outlives the values", "[gpu][bf16]") {
  if (test::skip_without_gpu()) return;
  Tensor x = on_gpu({64, 16}, 1);
  const Tensor values = Bf16Copy(x).values();
  REQUIRE(values.defined());
  CHECK(values.dtype() == DType::bf16);
  CHECK(values.raw() == static_cast<const void*>(Bf16Copy(x).target()));
  CHECK(values.to_vector() == x.to(DType::bf16).to_vector());

  const Tensor::Watch watch(x);
  CHECK(!watch.changed());
  x.copy_from(on_gpu({64, 16}, 2));
  CHECK(watch.changed());
  // Graphs know its address: it is where it was, with the values that are now.
  CHECK(static_cast<const void*>(Bf16Copy(x).activation()) == values.raw());
  const auto last = x.to(DType::bf16).to_vector();
  CHECK(values.to_vector() == last);

  const std::size_t before = allocated_bytes(Device::cuda);
  x = Tensor();
  CHECK(!watch.changed());
  CHECK(allocated_bytes(Device::cuda) <= before - 64 * 16 * sizeof(float));
  const Tensor next = Tensor::full({64, 16}, NAN).to(Device::cuda);  // not where the copy is
  CHECK(values.to_vector() == last);
  CHECK(!Bf16Copy(on_gpu({4, 4}, 3).slice(0, 1, 3)).values().defined());
}

// Their forward pass reads the copy of x alone, and that is what they keep of it.
TEST_CASE("gpu: feed_forward and self_attention keep no float32 input for backward", "[gpu][bf16]") {
  if (test::skip_without_gpu()) return;
  const Bf16ProductsGuard reduced;
  const auto leaf = [](const Shape& shape, std::uint64_t seed) { return parameter(on_gpu(shape, seed)); };
  const Variable up = leaf({24, 16}, 1), a = leaf({24}, 2), down = leaf({16, 24}, 3), b = leaf({16}, 4),
                 qkv = leaf({48, 16}, 5), c = leaf({48}, 6), out = leaf({16, 16}, 7);
  const Tensor input = on_gpu({2, 32, 16}, 8), shift = on_gpu({2, 32, 16}, 9);
  for (const bool attention : {false, true}) {
    CAPTURE(attention);
    const auto op = [&](const Variable& x) {
      return attention ? self_attention(x, qkv, c, out, b, 2) : feed_forward(x, up, a, down, b);
    };
    const auto gradient_of = [&](const Variable& y) {
      y.backward(on_gpu({2, 32, 16}, 10));
      const Variable& weight = attention ? qkv : up;
      const auto gradient = weight.grad().to_vector();
      weight.zero_grad();
      return gradient;
    };
    Variable x = add(parameter(input), shift);
    const Variable kept = x, y = op(x);
    const auto right = gradient_of(y);
    x = add(parameter(input), shift);
    const Variable again = op(x);
    const std::size_t before = allocated_bytes(Device::cuda);
    x = Variable();
    CHECK(allocated_bytes(Device::cuda) <= before - 2 * 32 * 16 * sizeof(float));
    CHECK(gradient_of(again) == right);
    // What a change in place would spoil is refused where it is still there, or was rounded anew before it went.
    x = add(parameter(input), shift);
    const Variable early = op(x);
    x.value().fill(5);
    op(x);
    x = Variable();
    CHECK_THROWS_WITH(early.backward(on_gpu({2, 32, 16}, 10)),
                      Catch::Matchers::ContainsSubstring("changed in place"));
    const Variable refused = op(kept);
    kept.value().fill(1);
    CHECK_THROWS_WITH(refused.backward(on_gpu({2, 32, 16}, 10)),
                      Catch::Matchers::ContainsSubstring("changed in place"));
  }
}

// dy of the first product is what the second's gradient is added to, in place.
TEST_CASE("gpu: gradients that grow between products are rounded as they are", "[gpu][bf16]") {
  if (test::skip_without_gpu()) return;
  const Variable x = parameter(on_gpu({3, 4}, 1)), weight = parameter(on_gpu({4, 4}, 2));
  const auto run = [&](bool reduced) {
    const Bf16ProductsGuard guard(reduced);
    const Variable a = linear(x, weight), b = linear(a, weight);
    add(add(a, b), linear(b, weight)).backward(on_gpu({3, 4}, 3));
    const std::vector<Tensor> all = {x.grad().to(Device::cpu), weight.grad().to(Device::cpu)};
    x.zero_grad();
    weight.zero_grad();
    return all;
  };
  const auto want = run(false), got = run(true);
  for (std::size_t i = 0; i < 2; ++i) {
    double largest = 0, worst = 0;
    const auto w = want[i].to_vector(), g = got[i].to_vector();
    for (std::size_t j = 0; j < w.size(); ++j) {
      largest = std::max(largest, std::abs(w[j]));
      worst = std::max(worst, std::abs(w[j] - g[j]));
    }
    CHECK(worst > 0);
    CHECK(worst < 0.03 * largest);  // a gradient that lacks a part is off by as much as that
  }
}

TEST_CASE("gpu: a graph rounds what an activation holds when it is replayed", "[gpu][bf16][graph]") {
  if (test::skip_without_gpu()) return;
  const Bf16ProductsGuard reduced;
  const NoGradGuard no_grad;
  const Tensor x = on_gpu({3, 5}, 1), weight = on_gpu({4, 5}, 2), y = Tensor::zeros({3, 4}).to(Device::cuda);
  const auto product_of = [&](const Tensor& in) { return linear(in, weight).value(); };
  const MemoryPool pool;
  const auto body = [&] { y.copy_from(product_of(x)); };
  cu::Graph graph;
  {
    const MemoryPool::Scope scope(pool);
    body();  // x has a copy now, which the capture must not rely on
    graph = cu::Graph::capture(body);
  }
  CHECK(graph.nodes() == 3);  // x's copy, the product, y
  // Captured, not done: what is not in the graph makes its own.
  x.copy_from(on_gpu({3, 5}, 3));
  CHECK(product_of(x).to_vector() == product_of(x.clone()).to_vector());
  for (const std::uint64_t seed : {4, 5}) {
    x.copy_from(on_gpu({3, 5}, seed));
    graph.replay();
    CHECK(y.to_vector() == product_of(on_gpu({3, 5}, seed)).to_vector());
    CHECK(product_of(x).to_vector() == y.to_vector());
  }
}

// Each op that products usually follow writes the copy of its output in its own pass.
TEST_CASE("gpu: what an op writes for products is its output rounded", "[gpu][bf16]") {
  if (test::skip_without_gpu()) return;
  const Bf16ProductsGuard reduced;
  const NoGradGuard no_grad;
  const auto is_rounded = [](const Variable& y) {
    const BFloat16* const copy = Bf16Copy(y.value()).target();
    REQUIRE(copy != nullptr);
    const Tensor out = Tensor::empty(y.shape(), DType::bf16, Device::cuda);
    cu::copy_bytes(out.raw(), Device::cuda, copy, Device::cuda,
                   static_cast<std::size_t>(y.value().numel()) * sizeof(BFloat16));
    CHECK(out.to_vector() == y.value().to(DType::bf16).to_vector());
    CHECK(Bf16Copy(y.value()).activation() == copy);
  };
  for (const std::int64_t D : {6, 64}) {
    const Tensor x = on_gpu({2, 5, D}, 1), h = on_gpu({2, 5, D}, 2), weight = on_gpu({D}, 3),
                 bias = on_gpu({D}, 4);
    is_rounded(layernorm(x, weight, bias, 1e-5));
    is_rounded(residual_layernorm(h, x, {}, weight, bias, 1e-5));
    is_rounded(linear_gelu(x, on_gpu({9, D}, 5), on_gpu({9}, 6)));
    is_rounded(causal_attention(on_gpu({2, 5, 3 * D}, 7), 2));  // heads of 32 are multiplied on tensor cores
    is_rounded(gate_layernorm(x, h, on_gpu({D, 2 * D}, 8), on_gpu({D}, 9), weight, bias, {}));
  }
}

TEST_CASE("gpu: gradients that come with their copy give the bits of those that are rounded later",
          "[gpu][bf16]") {
  if (test::skip_without_gpu()) return;
  const std::int64_t D = GENERATE(6, 64);
  const Variable x = parameter(on_gpu({2, 5, D}, 1)), weight = parameter(on_gpu({3 * D, D}, 2)),
                 back = parameter(on_gpu({D, 3 * D}, 3));
  const Variable scale = parameter(on_gpu({D}, 4)), shift = parameter(on_gpu({D}, 5));
  // Addition hands its gradient on as it is, and without a copy.
  const bool later = GENERATE(false, true);
  const auto pass = [&](const Variable& v, bool on) {
    return on ? add(v, Variable(Tensor::zeros(v.shape()).to(Device::cuda))) : v;
  };
  const auto run = [&](bool on) {
    const Bf16ProductsGuard reduced;
    const Variable qkv = linear(x, weight), y = linear(qkv, back);
    Variable out = causal_attention(pass(qkv, on), 2);
    // A second gradient arrives at y, before the normalisation's or after it.
    if (later) out = add(out, square(y));
    out = add(out, layernorm(pass(y, on), scale, shift, 1e-5));
    if (!later) out = add(out, square(y));
    out.backward(on_gpu({2, 5, D}, 6));
    std::vector<std::vector<double>> all;
    for (const Variable& v : {x, weight, back}) {
      all.push_back(v.grad().to_vector());
      v.zero_grad();
    }
    return all;
  };
  CHECK(run(false) == run(true));
}

TEST_CASE("gpu: plucker_linear's gradient that comes with its copy gives the bits of one rounded later",
          "[gpu][bf16]") {
  if (test::skip_without_gpu()) return;
  const std::int64_t D = 8, R = GENERATE(7, 32, 33);
  const bool twice = GENERATE(false, true);  // whether the gradient is added to another
  const Variable x = parameter(on_gpu({2, 5, D}, 1)), reduce = parameter(on_gpu({R, D}, 2)),
                 weight = parameter(on_gpu({D, R * (R - 1) / 2}, 4));
  const auto run = [&](bool through_addition) {  // which hands its gradient on as it is, and without a copy
    const Bf16ProductsGuard reduced;
    const Variable z = linear(x, reduce), zeros(Tensor::zeros(z.shape()).to(Device::cuda));
    Variable out = plucker_linear(through_addition ? add(z, zeros) : z, weight, {}, {1, 2});
    if (twice) out = add(out, linear(square(z), on_gpu({D, R}, 5)));
    out.backward(on_gpu({2, 5, D}, 6));
    std::vector<std::vector<double>> all;
    for (const Variable& v : {x, reduce, weight}) {
      all.push_back(v.grad().to_vector());
      v.zero_grad();
    }
    return all;
  };
  CHECK(run(false) == run(true));
}
