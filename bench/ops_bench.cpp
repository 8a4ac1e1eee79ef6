// Times every operation of tests/cases; kHelp below has what it takes and prints.
#include <set>

#include "bench/harness.h"
#include "bench/step_products.h"
#include "tests/cases/all.h"

using namespace wedge;

namespace {

constexpr const char* kHelp =
    R"(usage: ops_bench [--device=cpu|cuda|all] [--quick] [Google Benchmark's options]

Times every operation of tests/cases at the founding configuration's sizes: forward without a graph of gradients,
and forward with backward.

  --device=cpu|cuda|all  default cpu. On a GPU each case comes twice: /cuda in float32, and /cuda_bf16 with products
                         of bfloat16 copies
  --quick                to see that it works: a GPU's rates are of small sizes, the step's products are left out
  --benchmark_filter=plucker picks cases; OMP_NUM_THREADS=2 in the environment sets threads

Beside the time, and beside rates that are measured at the start of the same run:
  GFLOP/s, GB/s  of the arithmetic and the bytes that the case counts by hand: the least that the operation must
                 move, each tensor once (tests/cases/case.h)
  of_matrix      GFLOP/s as a part of the device's product rate: 1024^3 in float32 on the CPU; on a GPU 4096^3 in
                 float32, 8192^3 in bfloat16 for /cuda_bf16
  of_copy        GB/s as a part of its copy rate. Above 1 where what is counted stays in caches: on the CPU all of it
                 may; on a GPU inputs come from memory, but not the output's gradient, which all calls share, nor
                 always what forward leaves for backward

With bfloat16 products the weights' copies are made before what is timed, as in training AdamW writes them; only
plucker_linear makes its own. PyTorch's autocast, beside which bench/peers holds these times, casts weights within
them. Activations and gradients are cast within them on both sides.
)";

// A case on `place`, on as many sets of inputs as it takes.
void run(benchmark::State& state, const cases::Case& c, const bench::Place& place, bool backward) {
  const Bf16ProductsGuard products(place.bf16_products);
  const std::vector<Tensor> values = c.inputs(DType::f32);
  double input_bytes = 0;
  for (const Tensor& t : values) input_bytes += static_cast<double>(t.numel()) * size_of(t.dtype());
  std::vector<cases::Inputs> sets(
      static_cast<std::size_t>(bench::sets_beyond_cache(place.device, input_bytes)));
  for (cases::Inputs& set : sets)
    for (const Tensor& t : values) set.emplace_back(t.to(place.device), is_floating(t.dtype()));
  std::vector<Variable> results(sets.size());

  if (!backward) {
    const NoGradGuard no_grad;
    bench::Stopwatch stopwatch(
        place.device, std::ssize(sets), [&](std::int64_t i) { results[i] = c.run(sets[i]); },
        [&] { std::ranges::fill(results, Variable()); });
    return bench::time(state, place, c.forward.flops, c.forward.bytes_with(place.bf16_products), stopwatch);
  }
  const Tensor dy = Tensor::full(c.run(sets[0]).shape(), 1e-3, DType::f32, place.device);
  bench::Stopwatch stopwatch(
      place.device, std::ssize(sets), [&](std::int64_t i) { c.run(sets[i]).backward(dy); },
      [&] {
        for (const cases::Inputs& set : sets)
          for (const Variable& v : set) v.zero_grad();
      });
  bench::time(state, place, c.forward.flops + c.backward.flops,
              c.forward.bytes_with(place.bf16_products) + c.backward.bytes_with(place.bf16_products),
              stopwatch);
}

// The rates of the CPU's own products in a step of the founding configuration, into the head of the output.
void add_product_rates() {
  std::set<std::string> seen;
  for (const char* model : {"attention", "grassmann"}) {
    const ModelConfig config{.tensor_lifting_strategy = model, .vocab_size = 30522};
    for (const auto& [name, M, N, K, count] : bench::step_products(config, 2048, Device::cpu)) {
      if (!seen.insert(name).second) continue;
      const auto add = [](const std::string& what, const bench::ProductShape& s) {
        benchmark::AddCustomContext(fmt::format("sgemm {} {}x{}x{} GFLOP/s", what, s.M, s.N, s.K),
                                    fmt::format("{:.1f}", bench::sgemm_rate(s)));
      };
      add(name + " forward", {false, true, M, N, K});
      add(name + " input gradient", {false, false, M, K, N});
      add(name + " weight gradient", {true, false, N, K, M});
    }
  }
}

}  // namespace

int main(int argc, char** argv) try {
  const bench::Harness harness(argc, argv, kHelp);
  for (const bench::Place& place : harness.places)
    if (place.device == Device::cpu && !harness.quick) add_product_rates();

  const std::vector<cases::Case> all = cases::bench_cases();
  for (const cases::Case& c : all)
    for (const bool backward : {false, true})
      for (const bench::Place& place : harness.places) {
        const std::string name =
            c.op + "/" + c.sizes + (backward ? "/forward+backward" : "/forward") + place.name;
        bench::add(name, [&c, &place, backward](benchmark::State& state) { run(state, c, place, backward); });
      }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
} catch (const std::exception& e) {
  std::fprintf(stderr, "ops_bench: error: %s\n", e.what());
  return 2;
}
