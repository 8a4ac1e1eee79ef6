#include "autograd/gradcheck.h"

#include <cmath>

#include "autograd/node.h"
#include "autograd/ops.h"
#include "tensor/rng.h"

namespace wedge {

GradcheckResult gradcheck(const std::function<Variable(const std::vector<Variable>&)>& f,
                          const std::vector<Variable>& inputs, const GradcheckOptions& options) {
  for (const Variable& input : inputs)
    WEDGE_CHECK(!input.requires_grad() || (input.dtype() == DType::f64 && !input.state()->node),
                "gradcheck: expected float64 leaves, got {} {}{}", name_of(input.dtype()),
                to_string(input.shape()), input.state()->node ? ", the result of an operation" : "");
  const Variable out = f(inputs);
  Rng rng(0x9d2c);
  const Variable weights = Tensor::uniform(out.shape(), rng, 0.5, 1.5, DType::f64);
  for (const Variable& input : inputs) input.zero_grad();
  sum(out * weights).backward();

  const auto objective = [&] {
    const NoGradGuard no_grad;
    const std::vector<double> y = f(inputs).value().to_vector(), w = weights.value().to_vector();
    double total = 0;
    for (std::size_t i = 0; i < y.size(); ++i) total += y[i] * w[i];
    return total;
  };
  GradcheckResult result;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].requires_grad()) continue;
    const Tensor grad = inputs[i].grad();
    double* x = inputs[i].value().data<double>();
    for (std::int64_t k = 0; k < inputs[i].value().numel(); ++k) {
      const double at = x[k], h = options.step * std::max(1.0, std::abs(at));
      const auto objective_at = [&](double moved) {
        x[k] = moved;
        try {
          const double result = objective();
          x[k] = at;
          return result;
        } catch (...) {
          x[k] = at;
          throw;
        }
      };
      const double above = objective_at(at + h), below = objective_at(at - h);
      const double numeric = (above - below) / (2 * h);
      const double analytic = grad.defined() ? grad.data<double>()[k] : 0.0;
      const double error =
          std::abs(analytic - numeric) / (options.absolute + options.relative * std::abs(numeric));
      // A NaN must not pass for small.
      if (error > result.worst || std::isnan(error)) {
        result.worst = std::isnan(error) ? HUGE_VAL : error;
        result.message =
            fmt::format("input {}, element {}: analytic {}, numeric {}", i, k, analytic, numeric);
      }
    }
  }
  result.ok = result.worst <= 1;
  return result;
}

}  // namespace wedge
