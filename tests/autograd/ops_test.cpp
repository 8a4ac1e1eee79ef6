// Every operation, at every size of tests/cases.
#include "tests/autograd/check_case.h"
#include "tests/cases/all.h"
#include "tests/support/catch.h"

using namespace wedge;

namespace {

void check_all(const std::vector<cases::Case>& all) {
  REQUIRE(!all.empty());
  for (const cases::Case& c : all) {
    const auto failures = test::check_case(c);
    for (const std::string& failure : failures) FAIL_CHECK(failure);
    CHECK(failures.empty());
  }
}

}  // namespace

TEST_CASE("plucker_linear agrees with its definition", "[ops]") {
  check_all(cases::plucker_linear_cases());
}
TEST_CASE("gate_blend agrees with its twin", "[ops]") {
  check_all(cases::gate_blend_cases());
}
TEST_CASE("causal_attention agrees with its twin", "[ops]") {
  check_all(cases::causal_attention_cases());
}
TEST_CASE("layernorm agrees with its twin", "[ops]") {
  check_all(cases::layernorm_cases());
}
TEST_CASE("residual_layernorm agrees with its twin", "[ops]") {
  check_all(cases::residual_layernorm_cases());
}
TEST_CASE("linear_cross_entropy agrees with its twin", "[ops]") {
  check_all(cases::linear_cross_entropy_cases());
}
TEST_CASE("dropout and residual_dropout agree with their twins", "[ops]") {
  check_all(cases::dropout_cases());
}
TEST_CASE("linear and linear_gelu agree with their twins", "[ops]") {
  check_all(cases::linear_cases());
}
TEST_CASE("softmax and log_softmax agree with their twins", "[ops]") {
  check_all(cases::softmax_cases());
}
TEST_CASE("cross_entropy agrees with its twin", "[ops]") {
  check_all(cases::cross_entropy_cases());
}
TEST_CASE("embedding and gather agree with their twins", "[ops]") {
  check_all(cases::embedding_cases());
}
TEST_CASE("matmul agrees with its twin", "[ops]") {
  check_all(cases::matmul_cases());
}
TEST_CASE("elementwise operations agree with their twins", "[ops]") {
  check_all(cases::elementwise_cases());
}
TEST_CASE("reductions agree with their twins", "[ops]") {
  check_all(cases::reduce_cases());
}
TEST_CASE("operations that move elements agree with their twins", "[ops]") {
  check_all(cases::shape_cases());
}
