// Calls that an operation must refuse, with an error that names it, what it expected and what came.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "autograd/ops.h"
#include "tests/support/catch.h"

namespace wedge::test {

using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

inline Variable of(Shape shape, DType dtype = DType::f32) {
  return parameter(Tensor::full(std::move(shape), 0.5, dtype));
}

inline Tensor ids(std::vector<std::int32_t> values, Shape shape) {
  return Tensor::from<std::int32_t>(values, std::move(shape));
}

struct Refused {
  const char* op;
  const char* text;  // of the message, after the operation's name
  std::function<Variable()> call;
};

inline void check_all(const std::vector<Refused>& all) {
  for (const Refused& refused : all) {
    CAPTURE(refused.op, refused.text);
    CHECK_THROWS_AS(refused.call(), Error);
    CHECK_THROWS_WITH(refused.call(),
                      StartsWith(std::string(refused.op) + ": ") && ContainsSubstring(refused.text));
  }
}

inline const DType f64 = DType::f64;
inline const Variable none;

}  // namespace wedge::test
