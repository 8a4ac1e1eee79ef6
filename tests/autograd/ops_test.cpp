// Every operation, at every size of tests/cases, on the CPU and, where there is one, on a GPU.
#include "tests/autograd/check_case.h"
#include "tests/cases/all.h"
#include "tests/support/catch.h"
#include "tests/support/gpu.h"

using namespace wedge;

namespace {

void check_all(const std::vector<cases::Case>& all, const std::vector<test::Target>& targets) {
  REQUIRE(!all.empty());
  for (const cases::Case& c : all) {
    const auto failures = test::check_case(c, targets);
    for (const std::string& failure : failures) FAIL_CHECK(failure);
    CHECK(failures.empty());
  }
}

}  // namespace

#define WEDGE_OP_TEST(name, all)          \
  TEST_CASE(name, "[ops]") {              \
    check_all(all, test::cpu_targets());  \
  }                                       \
  TEST_CASE("gpu: " name, "[gpu][ops]") { \
    if (test::skip_without_gpu()) return; \
    check_all(all, test::gpu_targets());  \
  }

WEDGE_OP_TEST("plucker_linear agrees with its definition", cases::plucker_linear_cases())
WEDGE_OP_TEST("gate_blend agrees with its twin", cases::gate_blend_cases())
WEDGE_OP_TEST("self_attention agrees with its twin", cases::self_attention_cases())
WEDGE_OP_TEST("gate_layernorm agrees with its twin", cases::gate_layernorm_cases())
WEDGE_OP_TEST("causal_attention agrees with its twin", cases::causal_attention_cases())
WEDGE_OP_TEST("layernorm agrees with its twin", cases::layernorm_cases())
WEDGE_OP_TEST("residual_layernorm agrees with its twin", cases::residual_layernorm_cases())
WEDGE_OP_TEST("layernorm_dropout agrees with its twin", cases::layernorm_dropout_cases())
WEDGE_OP_TEST("linear_cross_entropy agrees with its twin", cases::linear_cross_entropy_cases())
WEDGE_OP_TEST("dropout and residual_dropout agree with their twins", cases::dropout_cases())
WEDGE_OP_TEST("linear and linear_gelu agree with their twins", cases::linear_cases())
WEDGE_OP_TEST("feed_forward agrees with its twin", cases::feed_forward_cases())
WEDGE_OP_TEST("softmax and log_softmax agree with their twins", cases::softmax_cases())
WEDGE_OP_TEST("cross_entropy agrees with its twin", cases::cross_entropy_cases())
WEDGE_OP_TEST("embedding and gather agree with their twins", cases::embedding_cases())
WEDGE_OP_TEST("token_position_embedding agrees with its twin", cases::token_position_cases())
WEDGE_OP_TEST("matmul agrees with its twin", cases::matmul_cases())
WEDGE_OP_TEST("elementwise operations agree with their twins", cases::elementwise_cases())
WEDGE_OP_TEST("reductions agree with their twins", cases::reduce_cases())
WEDGE_OP_TEST("operations that move elements agree with their twins", cases::shape_cases())
