// Work on the second stream: the same bits as in its place, whatever runs ahead; what it reads and writes is
// nobody else's meanwhile. The emulator runs a graph's branches in orders that the seed draws.
#include "tensor/cuda/side_stream.h"

#include <cmath>
#include <vector>

#include "autograd/ops.h"
#include "autograd/record.h"
#include "tensor/cuda/graph.h"
#include "tests/support/catch.h"
#include "tests/support/gpu.h"

using namespace wedge;
using namespace wedge::test;

namespace {

using Values = std::vector<double>;

Tensor zeros(std::int64_t n) {
  return Tensor::zeros({n}, DType::f32, Device::cuda);
}
std::span<const float> place(const Tensor& t) {
  return {t.data<float>(), static_cast<std::size_t>(t.numel())};
}

// All operations whose products go beside, on x [2, 24, 32], some of them twice and with parameters shared.
struct Net {
  static constexpr std::int64_t kD = 32;

  Variable x = parameter(random_on_gpu({2, 24, kD}, 1));
  std::vector<Variable> parameters{x};

  const Variable& make(Shape shape) {
    const double deviation = 1 / std::sqrt(static_cast<double>(shape.back()));
    Rng rng(parameters.size());
    return parameters.emplace_back(
        parameter(Tensor::normal(std::move(shape), rng, 0, deviation).to(Device::cuda)));
  }

  const Variable qkv = make({3 * kD, kD}), qkv_bias = make({3 * kD}), out = make({kD, kD}),
                 out_bias = make({kD});
  const Variable up = make({4 * kD, kD}), up_bias = make({4 * kD}), down = make({kD, 4 * kD}),
                 down_bias = make({kD});
  const Variable reduce = make({8, kD}), reduce_bias = make({8}), wedge = make({kD, 28}),
                 wedge_bias = make({kD});
  const Variable gate = make({kD, 2 * kD}), gate_bias = make({kD}), norm = make({kD}), norm_bias = make({kD});

  Variable mixer(const Variable& h) const {
    return plucker_linear(linear(h, reduce, reduce_bias), wedge, wedge_bias, {1, 2, 5});
  }
  Variable output() const {
    Variable y = self_attention(x, qkv, qkv_bias, out, out_bias, 2);
    y = layernorm(x + y, norm, norm_bias);
    y = y + feed_forward(y, up, up_bias, down, down_bias);
    y = gate_layernorm(y, mixer(y), gate, gate_bias, norm, norm_bias, {}, 1e-5);
    y = gate_blend(y, mixer(y), gate, gate_bias);
    return layernorm(linear(linear_gelu(y, up, up_bias), down, down_bias), norm, norm_bias);
  }
  void zero_grad() const {
    for (const Variable& p : parameters) p.zero_grad();
  }
  std::vector<Values> gradients() const {
    std::vector<Values> all;
    for (const Variable& p : parameters) all.push_back(p.grad().to_vector());
    return all;
  }
};

}  // namespace

TEST_CASE("gpu: gradients that are made beside have the bits of those that are not", "[gpu][side]") {
  if (skip_without_gpu()) return;
  for (const bool bf16 : {false, true}) {
    CAPTURE(bf16);
    const Bf16ProductsGuard reduced(bf16);
    const Net net;
    const Tensor dy = random_on_gpu({2, 24, Net::kD}, 99);
    const auto step = [&] { net.output().backward(dy); };
    cu::set_side_stream(false);
    step();
    const auto once = net.gradients();
    step();
    const auto twice = net.gradients();
    cu::set_side_stream(true);

    net.zero_grad();
    const MemoryPool pool;
    const MemoryPool::Scope scope(pool);
    step();
    CHECK(net.gradients() == once);
    const cu::Graph adding = cu::Graph::capture(step);
    adding.replay();
    CHECK(net.gradients() == twice);
    net.zero_grad();
    const cu::Graph graph = cu::Graph::capture(step);
    for (int replay = 0; replay < 12; ++replay) {
      graph.replay();
      CHECK(net.gradients() == once);
    }
  }
}

TEST_CASE("gpu: work on the side stream comes after what was, and before what waits for it", "[gpu][side]") {
  if (skip_without_gpu()) return;
  const Tensor a = random_on_gpu({1000}, 1), b = zeros(1000), c = zeros(1000), d = zeros(1000),
               e = zeros(1000);
  const auto body = [&] {
    cu::SideStream side;
    b.copy_from(a);
    void* const first = cu::stream();
    side.run({b}, place(c), [&] {
      CHECK(cu::stream() != first);
      const Tensor own = b.clone();  // memory of its own
      c.copy_from(own);
    });
    CHECK(cu::stream() == first);
    zeros(1000);  // not in the memory that the work has
    side.run({c}, place(d), [&] { d.copy_from(c); });
    side.settle(place(b));  // nothing writes there
    side.settle(place(c).subspan(999));
    e.copy_from(c);
    side.settle(place(d));
    b.copy_from(d);
    c.fill(0);
    d.fill(0);
  };
  const Values want = a.to_vector();
  const MemoryPool pool;
  const MemoryPool::Scope scope(pool);
  body();
  CHECK(b.to_vector() == want);
  const cu::Graph graph = cu::Graph::capture(body);
  for (int replay = 0; replay < 60; ++replay) {
    a.fill(replay);
    graph.replay();
    CHECK(b.to_vector() == a.to_vector());
    CHECK(e.to_vector() == a.to_vector());
  }
}

TEST_CASE("gpu: what the side stream reads is kept until it is done", "[gpu][side]") {
  if (skip_without_gpu()) return;
  const std::int64_t count = (std::int64_t{4} << 20) / 4;  // 4 MiB
  const Tensor to = zeros(4);
  cu::SideStream side;
  const auto run = [&] {
    const Tensor x = Tensor::empty({count}, DType::f32, Device::cuda);
    side.run({x}, place(to), [&] { to.copy_from(x.slice(0, 0, 4)); });
  };
  const std::size_t before = allocated_bytes(Device::cuda);
  for (int i = 0; i < 3; ++i) run();
  CHECK(allocated_bytes(Device::cuda) >= before + 3 * 4 * static_cast<std::size_t>(count));
  side.settle(place(to));
  CHECK(allocated_bytes(Device::cuda) == before);
  for (int i = 0; i < 200; ++i) run();
  CHECK(allocated_bytes(Device::cuda) <= before + cu::SideStream::kMostBytes);
  side.join();
  CHECK(allocated_bytes(Device::cuda) == before);
}

// Another thread may use it on the first stream again before that is waited for.
TEST_CASE("gpu: the side stream does not take what the first has freed", "[gpu][side]") {
  if (skip_without_gpu()) return;
  const auto make = [] { return Tensor::empty({23456}, DType::f32, Device::cuda); };
  const Tensor to = zeros(4);
  void* const freed = make().raw();
  cu::SideStream side;
  void* own = nullptr;
  side.run({}, place(to), [&] { own = make().raw(); });
  CHECK(own != freed);
  CHECK(make().raw() == freed);
  side.run({}, place(to), [&] { CHECK(make().raw() == own); });
}

TEST_CASE("gpu: work on the side stream that throws is waited for", "[gpu][side]") {
  if (skip_without_gpu()) return;
  const Tensor a = random_on_gpu({8}, 1), b = zeros(8);
  const auto body = [&](bool throws) {
    cu::SideStream side;
    try {
      side.run({a}, place(b), [&] {
        b.copy_from(a);
        if (throws) throw Error("side: as planned");
      });
    } catch (const Error&) {
      CHECK(throws);
    }
  };
  body(false);  // makes what the captures use
  for (const bool throws : {false, true}) {
    b.fill(0);
    cu::Graph::capture([&] { body(throws); }).replay();
    CHECK(b.to_vector() == a.to_vector());
  }
}

TEST_CASE("gpu: within a backward another writes to what waits beside", "[gpu][side]") {
  if (skip_without_gpu()) return;
  const Variable weight = parameter(random_on_gpu({8, 8}, 2));
  const Tensor dy = random_on_gpu({70, 8}, 3), dw = random_on_gpu({8, 8}, 5);
  const auto gradient = [&](bool inner) {
    const Variable leaf = parameter(random_on_gpu({70, 8}, 4));
    const auto step = [&] {
      const Variable other = weight * 3;  // whose gradient is made on the first stream
      const auto run_other = [&] { other.backward(dw); };
      const Variable y = make_output("within", leaf.value(), {leaf}, [&](const BackwardContext& ctx) {
        if (inner) run_other();
        ctx.accumulate(0, ctx.grad());
      });
      linear(y, weight, {}).backward(dy);
      if (!inner) run_other();
    };
    const MemoryPool pool;
    const MemoryPool::Scope scope(pool);
    step();
    std::vector<Values> all{weight.grad().to_vector()};
    weight.zero_grad();
    leaf.zero_grad();
    const cu::Graph graph = cu::Graph::capture(step);
    for (int replay = 0; replay < 20; ++replay) {
      graph.replay();
      all.push_back(weight.grad().to_vector());
    }
    weight.zero_grad();
    return all;
  };
  const auto want = gradient(false);
  CHECK(want == std::vector<Values>(want.size(), want[0]));
  CHECK(gradient(true) == want);
}
