// Between Google Benchmark and wedge: where to run, and what to hold the times against.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <string>
#include <vector>

#include "bench/machine_rates.h"
#include "bench/stopwatch.h"

namespace wedge::bench {

// A device, and in which precision its matrix products are: one column of the results.
struct Place {
  Device device;
  bool bf16_products;
  std::string name;  // "", "/cuda" or "/cuda_bf16", after the case's name
  Rates rates;
};

// Where --help is among the arguments prints `help`; Google Benchmark then adds its own and ends the program.
void explain_if_asked(int argc, char** argv, const char* help);

// Takes `--device=cpu|cuda|all` (default cpu) and `--quick` off the command line and hands the rest to Google
// Benchmark; measures the devices' rates and adds them, with the device, to the context of the results
// (`--benchmark_context=commit=...` adds what else is to be known). Throws wedge::Error on arguments that
// nobody knows, or where there is no GPU to use.
struct Harness {
  std::vector<Place> places;
  bool quick = false;

  Harness(int argc, char** argv, const char* help);
};

// Registers `body` under `name`, timed by hand; what it throws skips that benchmark, and is told.
void add(const std::string& name, std::function<void(benchmark::State&)> body);

// Times it on `place`, with what one call does in arithmetic and traffic: counters GB/s, of_copy, GFLOP/s,
// of_matrix; sets, the sets of inputs taken in turn; graph, whether the GPU replayed a graph.
void time(benchmark::State& state, const Place& place, double flops, double bytes, Stopwatch& stopwatch);

}  // namespace wedge::bench
