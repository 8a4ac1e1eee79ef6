// Times every operation of tests/cases at the founding configuration's sizes, in float32: forward without a
// graph, and forward with backward. Beside the time:
//   GFLOP/s, GB/s   of the arithmetic and the traffic that the case counts by hand
//   of_sgemm        GFLOP/s as a part of the machine's 1024³ product
//   of_copy         GB/s as a part of its copy rate: above 1 where operands stay in the caches
// both measured at the start of the same run. `--benchmark_filter=plucker` picks, OMP_NUM_THREADS=2 sets
// threads.
#include <benchmark/benchmark.h>
#include <omp.h>

#include <chrono>

#include "bench/machine_rates.h"
#include "tests/cases/all.h"

using namespace wedge;

namespace {

struct Machine {
  double sgemm, copy;
};

// Times `body`, and holds the work that one call of it does against the clock.
template <class Body>
void time(benchmark::State& state, const cases::Work& work, const Machine& machine, Body&& body) {
  body();
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) body();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const double calls_per_second = static_cast<double>(state.iterations()) / elapsed.count();
  const double gflops = work.flops / 1e9 * calls_per_second, gbytes = work.bytes / 1e9 * calls_per_second;
  state.counters["GB/s"] = gbytes;
  state.counters["of_copy"] = gbytes / machine.copy;
  if (gflops == 0) return;
  state.counters["GFLOP/s"] = gflops;
  state.counters["of_sgemm"] = gflops / machine.sgemm;
}

cases::Inputs leaves_of(const cases::Case& c) {
  cases::Inputs leaves;
  for (const Tensor& t : c.inputs(DType::f32)) leaves.emplace_back(t, is_floating(t.dtype()));
  return leaves;
}

void forward(benchmark::State& state, const cases::Case& c, const Machine& machine) {
  const cases::Inputs in = leaves_of(c);
  const NoGradGuard no_grad;
  time(state, c.forward, machine, [&] { benchmark::DoNotOptimize(c.run(in).value().raw()); });
}

void forward_backward(benchmark::State& state, const cases::Case& c, const Machine& machine) {
  const cases::Inputs in = leaves_of(c);
  const Tensor dy = Tensor::full(c.run(in).shape(), 1e-3);
  const cases::Work work{c.forward.flops + c.backward.flops, c.forward.bytes + c.backward.bytes};
  time(state, work, machine, [&] {
    for (const Variable& v : in) v.zero_grad();
    c.run(in).backward(dy);
  });
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;

  const Machine machine{bench::sgemm_rate({"square", false, false, 1024, 1024, 1024}), bench::copy_rate()};
  benchmark::AddCustomContext("threads", std::to_string(omp_get_max_threads()));
  benchmark::AddCustomContext("copy GB/s", fmt::format("{:.1f}", machine.copy));
  benchmark::AddCustomContext("sgemm 1024x1024x1024 GFLOP/s", fmt::format("{:.1f}", machine.sgemm));
  for (const bench::ProductShape& shape : bench::step_products(512))
    benchmark::AddCustomContext(
        fmt::format("sgemm {} {}x{}x{} GFLOP/s", shape.name, shape.M, shape.N, shape.K),
        fmt::format("{:.1f}", bench::sgemm_rate(shape)));

  const std::vector<cases::Case> all = cases::bench_cases();
  for (const cases::Case& c : all) {
    const std::string name = c.op + "/" + c.sizes;
    const auto add = [&](const char* what, auto function) {
      benchmark::RegisterBenchmark(
          (name + "/" + what).c_str(),
          [&c, &machine, function](benchmark::State& state) { function(state, c, machine); })
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
    };
    add("forward", forward);
    add("forward+backward", forward_backward);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
