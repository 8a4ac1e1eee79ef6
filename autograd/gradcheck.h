// Comparing analytic gradients with central differences.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/variable.h"

namespace wedge {

struct GradcheckOptions {
  double step = 1e-6;      // of the central difference
  double absolute = 1e-7;  // |analytic - numeric| <= absolute + relative · |numeric|
  double relative = 1e-5;
};

struct GradcheckResult {
  bool ok = true;
  double worst = 0;     // largest |analytic - numeric| / (absolute + relative · |numeric|); ok means <= 1
  std::string message;  // which element of which input was worst, with both values
};

// Checks f: inputs -> Variable of any shape, by the gradient of a fixed random weighting of its elements with
// regard to every element of every input that requires a gradient. f must be a pure function of the inputs
// (dropout: one counter). Inputs must be float64 leaves; throws wedge::Error otherwise. Their values are as
// they were when it is done, also where f throws; their gradients are those of this check.
GradcheckResult gradcheck(const std::function<Variable(const std::vector<Variable>&)>& f,
                          const std::vector<Variable>& inputs, const GradcheckOptions& options = {});

}  // namespace wedge
