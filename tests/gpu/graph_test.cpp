// Captured work and the memory that it needs set apart. Training steps as graphs: training_test.cpp.
#include "tensor/cuda/graph.h"

#include <functional>
#include <string>
#include <vector>

#include "apps/step_clock.h"
#include "tensor/cuda/gpu.h"
#include "tensor/tensor.h"
#include "tests/support/catch.h"
#include "tests/support/gpu.h"

using namespace wedge;
using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;

namespace {

using Values = std::vector<double>;

Tensor on_gpu(const std::vector<float>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())}).to(Device::cuda);
}

}  // namespace

TEST_CASE("gpu: a graph does its work again, from what is in memory then", "[gpu][graph]") {
  if (skip_without_gpu()) return;
  const Tensor x = on_gpu({1, 2, 3, 4}), y = on_gpu({0, 0, 0, 0});
  const MemoryPool pool;
  const auto body = [&] {
    // By way of memory of its own: y = (x reversed in pairs), x[0] = 7.
    const Tensor turned = x.reshape({2, 2}).transpose(0, 1).clone();
    y.copy_from(turned.reshape({4}));
    x.slice(0, 0, 1).fill(7);
  };
  cu::Graph graph;
  CHECK_FALSE(graph.defined());
  CHECK_THROWS_WITH(graph.replay(), ContainsSubstring("was not captured"));
  {
    const MemoryPool::Scope scope(pool);
    body();
    CHECK(y.to_vector() == Values{1, 3, 2, 4});
    x.copy_from(on_gpu({5, 6, 7, 8}));
    graph = cu::Graph::capture(body);
  }
  CHECK(graph.nodes() == 3);
  CHECK(y.to_vector() == Values{1, 3, 2, 4});  // captured, not done
  graph.replay();
  CHECK(y.to_vector() == Values{5, 7, 6, 8});
  CHECK(x.to_vector() == Values{7, 6, 7, 8});
  x.copy_from(on_gpu({1, 1, 2, 2}));
  graph.replay();
  CHECK(y.to_vector() == Values{1, 2, 1, 2});
}

TEST_CASE("gpu: memory set apart is not handed to others", "[gpu][graph]") {
  if (skip_without_gpu()) return;
  constexpr std::int64_t kCount = 12345;  // a size of its own
  const auto make = [] { return Tensor::empty({kCount}, DType::f32, Device::cuda); };
  release_cached_memory();
  void* apart = nullptr;
  {
    const MemoryPool pool;
    Tensor kept;
    {
      const MemoryPool::Scope scope(pool);
      apart = make().raw();
      CHECK(make().raw() == apart);
      kept = make();
      CHECK(kept.raw() == apart);
    }
    kept = Tensor();  // returns to the pool, outside the scope as well
    CHECK(make().raw() != apart);
    const MemoryPool::Scope scope(pool);
    CHECK(make().raw() == apart);
  }
  // With the pool gone its blocks are everyone's: this one and the one that was made beside it.
  const Tensor one = make(), two = make();
  CHECK((one.raw() == apart || two.raw() == apart));
  release_cached_memory();
}

TEST_CASE("gpu: a capture refuses what a replay could not do", "[gpu][graph]") {
  if (skip_without_gpu()) return;
  const Tensor x = on_gpu({1, 2});
  release_cached_memory();
  const auto error_of = [](const std::function<void()>& body) -> std::string {
    try {
      cu::Graph::capture(body);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  CHECK_THAT(error_of([&] { x.to_vector(); }), ContainsSubstring("not possible while a graph is captured"));
  CHECK_THAT(error_of([&] { x.copy_from(Tensor::zeros({2})); }),
             ContainsSubstring("copy between the host and the GPU: not possible while"));
  CHECK_THAT(error_of([] { cu::synchronize(); }), ContainsSubstring("synchronize: not possible while"));
  CHECK_THAT(error_of([] { Tensor::empty({54321}, DType::f32, Device::cuda); }),
             ContainsSubstring("allocation: not possible while"));
  CHECK_THAT(error_of([] { throw Error("of the body"); }), ContainsSubstring("of the body"));
  CHECK_FALSE(cu::is_capturing());
  CHECK(error_of([&] { x.fill(3); }).empty());
  CHECK(x.to_vector() == Values{1, 2});
}

TEST_CASE("gpu: the clock of a run goes on as on the CPU, replayed", "[gpu][graph]") {
  if (skip_without_gpu()) return;
  const Values rates = {0.5, 0.25, 0.125, 0.0625};
  app::StepClock on_cpu(3, 4, 2, 4, DType::f32, Device::cpu), on_gpu(3, 4, 2, 4, DType::f32, Device::cuda);
  on_cpu.set(20, 0, 5, rates);
  on_gpu.set(20, 0, 5, rates);
  const Tensor loss = Tensor::full({1}, 2.5), norm = Tensor::full({1}, 0.75, DType::f64);
  const Tensor gpu_loss = loss.to(Device::cuda), gpu_norm = norm.to(Device::cuda);
  const cu::Graph step = cu::Graph::capture([&] {
    on_gpu.tick(gpu_loss, 4);
    on_gpu.tick(gpu_loss, 3, &gpu_norm);
  });
  for (int i = 0; i < 3; ++i) {
    on_cpu.tick(loss, 4);
    on_cpu.tick(loss, 3, &norm);
    step.replay();
    CHECK(on_gpu.dropout_counter().to_vector() == on_cpu.dropout_counter().to_vector());
    CHECK(on_gpu.next_block().item() == on_cpu.next_block().item());
    CHECK(on_gpu.learning_rate().item() == rates[static_cast<std::size_t>(i + 1)]);
  }
  const auto want = on_cpu.read(3), got = on_gpu.read(3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(got[i].losses == want[i].losses);
    CHECK(got[i].norm == 0.75);
  }
}
