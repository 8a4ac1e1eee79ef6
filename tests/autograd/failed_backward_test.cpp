// What a backward pass that fails leaves behind: nothing that a later one could trip over.
#include "autograd/ops.h"
#include "autograd/record.h"
#include "tests/support/catch.h"

using namespace wedge;

namespace {

Variable failing(const Variable& x) {
  return make_output("failing", x.value().clone(), {x},
                     [](const BackwardContext&) { throw Error("failing: as planned"); });
}

}  // namespace

TEST_CASE("gradients of a failed backward do not meet those of the next", "[tape]") {
  const Variable w = parameter(Tensor::from(std::vector<double>{1, 2}, {2}));
  const Variable h = w * 1.0;
  const Variable loss = sum(failing(h)) + sum(h * 1.0);
  CHECK_THROWS_AS(loss.backward(), Error);
  sum(h * 2.0).backward();
  REQUIRE(w.grad().defined());
  CHECK(w.grad().to_vector() == std::vector<double>{2, 2});
}

TEST_CASE("a leaf that a failed closure was about to write has no gradient", "[tape]") {
  const Variable x = parameter(Tensor::from(std::vector<double>{1, 2}, {2}));
  const Variable y = sum(relu(x));
  x.set_value(Tensor::from(std::vector<double>{3, 4}, {2}));
  CHECK_THROWS_AS(y.backward(), Error);
  CHECK_FALSE(x.grad().defined());
}
