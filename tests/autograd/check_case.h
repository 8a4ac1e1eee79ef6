// Everything that must hold of an operation, checked on one case.
#pragma once

#include <string>
#include <vector>

#include "tests/cases/case.h"

namespace wedge::test {

// Where and in what an operation is checked.
struct Target {
  Device device = Device::cpu;
  DType dtype = DType::f64;
};

// What the CPU and a GPU compute in.
std::vector<Target> cpu_targets();
std::vector<Target> gpu_targets();

// Checks, on every target:
//   - value and all gradients against the twin in float64 (without a twin: the operation itself in float64);
//   - the same bits when run again;
//   - gradients that are added: to what consumers have left (fan-out), and over two backward passes;
//   - each input alone wanting its gradient, and none (then no graph);
//   - one variable given for two inputs of one shape;
//   - inputs that are transposed views;
//   - on the CPU, other numbers of threads;
//   - an input or the output changed in place before backward: an error, or no difference;
//   - nothing read before it was written, nothing written outside its bounds (guard bands);
// and gradcheck in float64 on the CPU where the case is small and smooth. Returns one line for each failure,
// with the case's parameters. Restores the thread count and the guard bands.
std::vector<std::string> check_case(const cases::Case& c, const std::vector<Target>& targets = cpu_targets());

}  // namespace wedge::test
