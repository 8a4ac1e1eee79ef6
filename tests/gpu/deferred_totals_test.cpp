// Totals of column sums that wait for the end of backward: the same bits as at once, whoever else touches
// their place, and nothing where backward fails.
#include "kernels/deferred_totals.h"

#include <functional>
#include <string>
#include <vector>

#include "autograd/ops.h"
#include "autograd/record.h"
#include "tensor/cuda/graph.h"
#include "tests/support/catch.h"
#include "tests/support/gpu.h"
#if defined(WEDGE_EMULATOR)
#include "tests/support/emulator/emulator.h"
#endif

using namespace wedge;
using namespace wedge::test;

namespace {

using Values = std::vector<double>;

// The gradient of a producer's output is read in the same backward: its totals cannot wait.
Variable at_once(const Variable& leaf) {
  return leaf * 1.0;
}

// Launches and copies of `work`; 0 on a real GPU.
std::uint64_t calls_of(const std::function<void()>& work) {
#if defined(WEDGE_EMULATOR)
  const std::uint64_t before = emulator::calls();
  work();
  return emulator::calls() - before;
#else
  work();
  return 0;
#endif
}

Variable failing(const Variable& x) {
  return make_output("failing", x.value().clone(), {x},
                     [](const BackwardContext&) { throw Error("failing: as planned"); });
}

}  // namespace

TEST_CASE("gpu: totals that wait have the bits of those that do not", "[gpu][totals]") {
  if (skip_without_gpu()) return;
  for (const std::int64_t rows : {1, 70, 530})
    for (const std::int64_t D : {7, 264}) {
      CAPTURE(rows, D);
      const Variable x = random_on_gpu({rows, D}, 1);
      const auto run = [&](bool waits, int passes) {
        std::vector<Variable> leaves;
        for (int i = 0; i < 4; ++i) leaves.push_back(parameter(random_on_gpu({D}, 10 + i)));
        leaves.push_back(parameter(random_on_gpu({D, D}, 14)));
        for (int pass = 0; pass < passes; ++pass) {  // the second one adds
          std::vector<Variable> p = leaves;
          if (!waits)
            for (Variable& v : p) v = at_once(v);
          const Variable y = layernorm(x, p[0], p[1]);
          linear_gelu(layernorm(linear(y, p[4], p[2]), p[0], p[1]), p[4], p[3])
              .backward(random_on_gpu({rows, D}, 2));
        }
        std::vector<Values> all;
        for (const Variable& leaf : leaves) all.push_back(leaf.grad().to_vector());
        return all;
      };
      for (const int passes : {1, 2}) {
        CAPTURE(passes);
        const auto waited = run(true, passes);
        CHECK(waited == run(true, passes));
        // A producer's gradient is added to the leaf's as a whole, so that two passes round otherwise.
        if (passes == 1) CHECK(waited == run(false, 1));
      }
    }
}

TEST_CASE("gpu: the totals of a backward are one kernel", "[gpu][totals]") {
  if (skip_without_gpu()) return;
  const auto calls = [](int layers) {
    std::vector<Variable> leaves;
    Variable x = parameter(random_on_gpu({40, 8}, 1));
    for (int i = 0; i < layers; ++i) {
      leaves.push_back(parameter(random_on_gpu({8}, 2)));
      leaves.push_back(parameter(random_on_gpu({8}, 3)));
      x = layernorm(x, leaves[leaves.size() - 2], leaves.back());
    }
    const Tensor dy = random_on_gpu({40, 8}, 4);
    const std::uint64_t count = calls_of([&] { x.backward(dy); });
    for (const Variable& leaf : leaves)
      for (const double g : leaf.grad().to_vector()) REQUIRE(g == g);
    return count;
  };
#if defined(WEDGE_EMULATOR)
  CHECK(calls(1) == 2);
  CHECK(calls(5) == 6);
  CHECK(calls(48) == 49);  // a table has 96 rows
  CHECK(calls(49) == 51);
  CHECK(calls(100) == 103);
#else
  calls(100);
#endif
}

TEST_CASE("gpu: a leaf that several write to, at once and later", "[gpu][totals]") {
  if (skip_without_gpu()) return;
  const std::int64_t D = 12;
  const auto check = [&](const char* name, const std::function<Variable(const Variable&)>& f) {
    CAPTURE(name);
    const auto gradient = [&](Device device) {
      const Variable leaf = parameter(random_on_gpu({D}, 5).to(device));
      Values all;
      for (int pass = 0; pass < 2; ++pass) {
        sum(square(f(leaf))).backward();
        for (const double g : leaf.grad().to_vector()) all.push_back(g);
      }
      return all;
    };
    const Values want = gradient(Device::cpu), got = gradient(Device::cuda);
    REQUIRE(got.size() == want.size());
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(want[i]).epsilon(1e-4).margin(1e-4));
  };
  const Tensor in = random_on_gpu({70, D}, 6), w = random_on_gpu({D, D}, 7);
  const auto x = [&](const Variable& like) { return Variable(in.to(like.value().device())); };
  const auto weight = [&](const Variable& like) { return Variable(w.to(like.value().device())); };
  check("weight and bias in one", [&](const Variable& p) { return layernorm(x(p), p, p); });
  check("two layers", [&](const Variable& p) { return layernorm(layernorm(x(p), p, p), p, p); });
  check("a sum, then a product", [&](const Variable& p) { return layernorm(x(p), p, p) * p; });
  check("a product, then a sum", [&](const Variable& p) { return layernorm(x(p) * p, p, p); });
  check("input and bias", [&](const Variable& p) { return linear_gelu(p, weight(p), p); });
  check("all of a norm", [&](const Variable& p) { return layernorm(p, p, p); });
  check("at once and later",
        [&](const Variable& p) { return layernorm(layernorm(x(p), at_once(p), p), p, at_once(p)); });
}

TEST_CASE("gpu: totals of a leaf that only the graph holds", "[gpu][totals]") {
  if (skip_without_gpu()) return;
  const std::int64_t D = 264;
  const Variable x = parameter(random_on_gpu({70, D}, 1));
  const auto run = [&](bool dropped) {
    const Variable weight = parameter(random_on_gpu({D}, 2));
    Variable y = x * 1.0;
    std::vector<Variable> kept;
    for (int i = 0; i < 3; ++i) {
      const Variable bias = parameter(random_on_gpu({D}, 3));
      if (!dropped) kept.push_back(bias);
      y = layernorm(y, weight, bias);
    }
    y.backward(random_on_gpu({70, D}, 4));
    const Values got = x.grad().to_vector();
    x.zero_grad();
    return got;
  };
  CHECK(run(true) == run(false));
}

TEST_CASE("gpu: a backward that fails writes nothing later", "[gpu][totals]") {
  if (skip_without_gpu()) return;
  const std::int64_t D = 8;
  const Variable x = parameter(random_on_gpu({70, D}, 1));
  const Variable weight = parameter(random_on_gpu({D}, 2)), bias = parameter(random_on_gpu({D}, 3));
  const auto good = [&] { layernorm(x, weight, bias).backward(random_on_gpu({70, D}, 4)); };
  const auto bad = [&] {
    CHECK_THROWS_AS(layernorm(failing(x), weight, bias).backward(random_on_gpu({70, D}, 5)), Error);
  };
  bad();
  CHECK_FALSE(weight.grad().defined());
  CHECK_FALSE(bias.grad().defined());
  good();
  const Values want = bias.grad().to_vector();
  bad();
  CHECK(bias.grad().to_vector() == want);  // what waited is forgotten
  good();
  const Values twice = bias.grad().to_vector();
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(twice[i] == Approx(2 * want[i]));
}

TEST_CASE("gpu: a backward within a backward", "[gpu][totals]") {
  if (skip_without_gpu()) return;
  const std::int64_t D = 8;
  const Variable x = parameter(random_on_gpu({70, D}, 1));
  const auto run = [&](bool inner) {
    const Variable weight = parameter(random_on_gpu({D}, 2)), bias = parameter(random_on_gpu({D}, 3));
    // Recorded beforehand: a backward records no graph.
    const Variable other = layernorm(x, weight, bias);
    const auto run_other = [&] { other.backward(random_on_gpu({70, D}, 4)); };
    const Variable y = make_output("within", x.value(), {x}, [&](const BackwardContext& ctx) {
      if (inner) run_other();
      ctx.accumulate(0, ctx.grad());
    });
    layernorm(y, weight, bias).backward(random_on_gpu({70, D}, 5));
    if (!inner) run_other();
    return std::vector<Values>{weight.grad().to_vector(), bias.grad().to_vector()};
  };
  CHECK(run(true) == run(false));
}

TEST_CASE("gpu: totals that wait, captured and replayed", "[gpu][totals][graph]") {
  if (skip_without_gpu()) return;
  const std::int64_t D = 8;
  const Variable x = random_on_gpu({70, D}, 1), weight = parameter(random_on_gpu({D}, 2)),
                 bias = parameter(random_on_gpu({D}, 3));
  const Tensor dy = random_on_gpu({70, D}, 4);
  const auto step = [&] { layernorm(layernorm(x, weight, bias), weight, bias).backward(dy); };
  const MemoryPool pool;
  cu::Graph graph;
  {
    const MemoryPool::Scope scope(pool);
    step();
    weight.zero_grad();
    bias.zero_grad();
    graph = cu::Graph::capture(step);
  }
  const auto gradients = [&] {
    return std::vector<Values>{weight.grad().to_vector(), bias.grad().to_vector()};
  };
  dy.copy_from(random_on_gpu({70, D}, 5));
  graph.replay();
  const auto got = gradients();
  graph.replay();
  CHECK(gradients() == got);
  weight.zero_grad();
  bias.zero_grad();
  step();
  CHECK(gradients() == got);
}

TEST_CASE("gpu: partial sums that wait are of a bounded size", "[gpu][totals]") {
  if (skip_without_gpu()) return;
  const std::int64_t D = 512;
  const auto make = [&] {
    const auto storage = std::make_shared<Storage>(cu::DeferredTotals::kMostBytes / 2, Device::cuda);
    cu::fill_bytes(storage->data(), 0, D * sizeof(float));
    return storage;
  };
  const Tensor out = Tensor::full({3, D}, 1, DType::f32, Device::cuda);
  const std::size_t before = allocated_bytes(Device::cuda);
  cu::DeferredTotals totals(cu::stream());
  const auto take = [&](int i, bool add) {
    const auto storage = make();
    const cu::ColumnTotal<float> total{
        reinterpret_cast<const float*>(storage->data()), out.data<float>() + i * D, D, D, 1, add};
    return cu::DeferredTotals::take(cu::stream(), storage, {&total, 1});
  };
  CHECK_FALSE(take(0, false));  // nobody said that it may
  totals.may_wait({out.data<float>(), static_cast<std::size_t>(3 * D)});
  CHECK(take(0, false));
  CHECK(take(1, true));
  CHECK(allocated_bytes(Device::cuda) >= before + cu::DeferredTotals::kMostBytes);
  CHECK(take(2, false));  // one too many
  CHECK(allocated_bytes(Device::cuda) == before);
  Values want(3 * D, 0.0);
  for (std::int64_t c = D; c < 2 * D; ++c) want[static_cast<std::size_t>(c)] = 1;
  CHECK(out.to_vector() == want);
}
