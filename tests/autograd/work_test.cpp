// The traffic that cases count by hand, beside the tensors that there are.
#include "tests/cases/all.h"
#include "tests/support/catch.h"

using namespace wedge;

namespace {

std::vector<cases::Case> counted_cases() {
  std::vector<cases::Case> counted;
  for (const auto& all :
       {cases::plucker_linear_cases(), cases::gate_blend_cases(), cases::gate_layernorm_cases(),
        cases::self_attention_cases(), cases::causal_attention_cases(), cases::linear_cases(),
        cases::feed_forward_cases(), cases::layernorm_cases(), cases::residual_layernorm_cases(),
        cases::layernorm_dropout_cases(), cases::linear_cross_entropy_cases(), cases::dropout_cases(),
        cases::embedding_cases(), cases::token_position_cases(), cases::softmax_cases(),
        cases::cross_entropy_cases(), cases::matmul_cases(), cases::elementwise_cases(),
        cases::reduce_cases()})
    for (const cases::Case& c : all)
      if (c.forward.bytes > 0) counted.push_back(c);
  return counted;
}

}  // namespace

TEST_CASE("cases count inputs and output forward, and at least the gradients backward", "[ops][work]") {
  const NoGradGuard no_grad;
  for (const cases::Case& c : counted_cases()) {
    CAPTURE(c.op, c.sizes);
    double read = 0, gradients = 0;
    cases::Inputs inputs;
    for (const Tensor& t : c.inputs(DType::f32)) {
      inputs.emplace_back(t);
      if (t.dtype() != DType::i64) read += static_cast<double>(t.numel());  // else a counter of dropout
      if (is_floating(t.dtype())) gradients += static_cast<double>(t.numel());
    }
    const auto written = static_cast<double>(c.run(inputs).value().numel());
    if (c.op.ends_with("embedding")) {  // rows that nobody names are not read
      CHECK(c.forward.bytes <= 4 * (read + written));
      CHECK(c.forward.bytes > 4 * (read - gradients + written));
    } else {
      CHECK(c.forward.bytes == 4 * (read + written));
    }
    CHECK(c.backward.bytes >= 4 * (written + gradients));
    CHECK(c.forward.halved <= 4 * read);
    CHECK(c.backward.halved <= c.backward.bytes - 4 * (written + gradients));
  }
}
