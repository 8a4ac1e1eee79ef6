#include "bench/harness.h"

#include <omp.h>

#include <algorithm>
#include <cstdio>

#include "tensor/check.h"
#include "tensor/cuda/gpu.h"

namespace wedge::bench {
namespace {

// Takes the option out of the arguments; `value` is what follows its '='.
bool take_option(std::vector<char*>& arguments, const std::string& name, std::string& value) {
  const auto found = std::ranges::find_if(arguments, [&](const char* argument) {
    return argument == name || std::string(argument).starts_with(name + "=");
  });
  if (found == arguments.end()) return false;
  const std::string argument = *found;
  value = argument.size() > name.size() ? argument.substr(name.size() + 1) : "";
  arguments.erase(found);
  return true;
}

void add_context(const std::string& device, const Rates& rates) {
  const auto add = [&](const char* what, double rate) {
    benchmark::AddCustomContext(device + " " + what, fmt::format("{:.1f}", rate));
  };
  add("copy GB/s", rates.copy);
  add("matrix float32 GFLOP/s", rates.matrix);
  if (device != "cpu") add("matrix bfloat16 GFLOP/s", rates.matrix_bf16);
}

}  // namespace

void explain_if_asked(int argc, char** argv, const char* help) {
  for (int i = 1; i < argc; ++i)
    if (std::string(argv[i]) == "--help") {
      std::printf("%s\nGoogle Benchmark's options:\n\n", help);
      return;
    }
}

Harness::Harness(int argc, char** argv, const char* help) {
  explain_if_asked(argc, argv, help);
  std::vector<char*> arguments(argv, argv + argc);
  std::string device = "cpu", nothing;
  take_option(arguments, "--device", device);
  quick = take_option(arguments, "--quick", nothing);
  WEDGE_CHECK(nothing.empty(), "--quick: expected no value, got '{}'", nothing);
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  WEDGE_CHECK(count <= 1, "unknown argument '{}'; --help explains them", arguments[1]);
  WEDGE_CHECK(device == "cpu" || device == "cuda" || device == "all",
              "--device: expected cpu, cuda or all, got '{}'", device);

  benchmark::AddCustomContext("threads", std::to_string(omp_get_max_threads()));
  if (quick) benchmark::AddCustomContext("quick", "yes: no measure of anything");
  if (device != "cuda") {
    const Rates rates = cpu_rates();
    add_context("cpu", rates);
    places.push_back({Device::cpu, false, "", rates});
  }
  if (device == "cpu") return;
  if constexpr (kWithCuda) {
    WEDGE_CHECK(cu::device_count() > 0, "--device={}: no GPU: {}", device, cu::why_no_device());
    benchmark::AddCustomContext("gpu", cu::describe_device());
    const Rates rates = gpu_rates(quick);
    add_context("cuda", rates);
    places.push_back({Device::cuda, false, "/cuda", rates});
    places.push_back({Device::cuda, true, "/cuda_bf16", rates});
  } else {
    WEDGE_CHECK(false, "--device={}: this build has no CUDA", device);
  }
}

void add(const std::string& name, std::function<void(benchmark::State&)> body) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [body = std::move(body)](benchmark::State& state) {
                                 try {
                                   body(state);
                                 } catch (const std::exception& e) {
                                   state.SkipWithError(e.what());
                                 }
                               })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

void time(benchmark::State& state, const Place& place, double flops, double bytes, Stopwatch& stopwatch) {
  double total = 0;
  while (state.KeepRunningBatch(stopwatch.sets())) {
    const double seconds = stopwatch.seconds();
    state.SetIterationTime(seconds);
    total += seconds;
  }
  const double calls_per_second = static_cast<double>(state.iterations()) / total;
  state.counters["GB/s"] = bytes / 1e9 * calls_per_second;
  state.counters["of_copy"] = bytes / 1e9 * calls_per_second / place.rates.copy;
  if (flops > 0) {
    state.counters["GFLOP/s"] = flops / 1e9 * calls_per_second;
    state.counters["of_matrix"] =
        flops / 1e9 * calls_per_second / (place.bf16_products ? place.rates.matrix_bf16 : place.rates.matrix);
  }
  if (place.device == Device::cpu) return;
  state.counters["sets"] = static_cast<double>(stopwatch.sets());
  state.counters["graph"] = stopwatch.is_graph() ? 1 : 0;
  if (!stopwatch.is_graph()) state.SetLabel(stopwatch.why_no_graph());
}

}  // namespace wedge::bench
