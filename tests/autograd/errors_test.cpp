// What elementwise operations, reductions, shapes and products refuse.
#include <cmath>
#include <limits>

#include "tests/autograd/refused.h"

using namespace wedge;
using namespace wedge::test;

TEST_CASE("elementwise operations refuse shapes and dtypes that do not fit", "[errors]") {
  using Operation = std::pair<const char*, Variable (*)(const Variable&, const Variable&)>;
  for (const auto& [op, f] : {Operation{"add", add}, {"sub", sub}, {"mul", mul}, {"div", div}})
    check_all({
        {op, "shapes [2, 3] and [2] do not broadcast",
         [f = f] {
           return f(of({2, 3}), of({2}));
         }},
        {op, "b must be float32 as a is, got float64", [f = f] { return f(of({2}), of({2}, f64)); }},
        {op, "expected b, got an undefined variable", [f = f] { return f(of({2}), none); }},
        {op, "got int32", [f = f] { return f(ids({1}, {1}), ids({1}, {1})); }},
        {op, "at most 8 dimensions", [f = f] { return f(of(Shape(9, 1)), of({1})); }},
    });
  const std::pair<const char*, Variable (*)(const Variable&)> functions[] = {
      {"neg", neg},   {"exp", exp},         {"log", log},   {"sqrt", sqrt}, {"square", square},
      {"tanh", tanh}, {"sigmoid", sigmoid}, {"relu", relu}, {"gelu", gelu}};
  for (const auto& [op, f] : functions)
    check_all({{op, "got int32", [f = f] { return f(ids({1}, {1})); }},
               {op, "got bfloat16", [f = f] { return f(of({1}, DType::bf16)); }},
               {op, "expected x, got an undefined variable", [f = f] { return f(none); }}});
}

TEST_CASE("reductions refuse dimensions that are not there", "[errors]") {
  check_all({
      {"sum", "dimension must be in [-2, 2), got 2",
       [] {
         return sum(of({2, 3}), 2);
       }},
      {"mean", "dimension must be in [-2, 2), got -3",
       [] {
         return mean(of({2, 3}), -3);
       }},
      {"max", "dimension must be in [-1, 1), got 1", [] { return max(of({2}), 1); }},
      {"sum", "expected float32 or float64, got int32", [] { return sum(ids({1}, {1}), 0); }},
      {"mean", "expected float32 or float64, got bfloat16", [] { return mean(of({0}, DType::bf16)); }},
      {"max", "expected float32 or float64, got int32", [] { return max(ids({1}, {1}), 0); }},
      {"sum", "dimension must be in [0, 0)", [] { return sum(of({}), 0); }},
      {"mean", "is empty",
       [] {
         return mean(of({2, 0}), 1);
       }},
      {"mean", "[0, 3] is empty",
       [] {
         return mean(of({0, 3}));
       }},
      {"max", "is empty",
       [] {
         return max(of({2, 0}), 1);
       }},
  });
}

TEST_CASE("operations that move elements refuse impossible shapes", "[errors]") {
  check_all({
      {"reshape", "one may be -1, got [-1, -1]",
       [] {
         return reshape(of({2, 3}), {-1, -1});
       }},
      {"reshape", "cannot make [4] of [2, 3]",
       [] {
         return reshape(of({2, 3}), {4});
       }},
      {"transpose", "dimension must be in",
       [] {
         return transpose(of({2, 3}), 0, 2);
       }},
      {"permute", "expected each of 0..1 once, got [0, 0]",
       [] {
         return permute(of({2, 3}), {0, 0});
       }},
      {"slice", "expected 0 <= begin <= end <= 3, got [1, 4)",
       [] {
         return slice(of({2, 3}), 1, 1, 4);
       }},
      {"slice", "dimension must be in",
       [] {
         return slice(of({2, 3}), 2, 0, 1);
       }},
      {"broadcast_to", "[2, 3]",
       [] {
         return broadcast_to(of({2, 3}), {2, 4});
       }},
      {"broadcast_to", "[2] does not broadcast to [-1]", [] { return broadcast_to(of({2}), {-1}); }},
      {"concat", "at least one", [] { return concat({}, 0); }},
      {"concat", "expected a part, got an undefined variable",
       [] {
         return concat({of({2}), none}, 0);
       }},
      {"concat", "got [3, 3]",
       [] {
         return concat({of({2, 3}), of({3, 3})}, 1);
       }},
      {"concat", "got [3]",
       [] {
         return concat({of({2, 3}), of({3})}, 0);
       }},
      {"concat", "got float64",
       [] {
         return concat({of({2}), of({2}, f64)}, 0);
       }},
      {"concat", "dimension must be in", [] { return concat({of({2})}, 1); }},
  });
}

TEST_CASE("products refuse sizes that do not meet", "[errors]") {
  check_all({
      {"matmul", "got [2, 3] and [4, 5]",
       [] {
         return matmul(of({2, 3}), of({4, 5}));
       }},
      {"matmul", "got [3] and [3, 2]",
       [] {
         return matmul(of({3}), of({3, 2}));
       }},
      {"matmul", "do not broadcast",
       [] {
         return matmul(of({2, 1, 3}), of({3, 3, 1}));
       }},
      {"matmul", "b must be float32 as a is, got float64",
       [] {
         return matmul(of({2, 3}), of({3, 2}, f64));
       }},
      {"matmul", "got int32",
       [] {
         return matmul(ids({1}, {1, 1}), ids({1}, {1, 1}));
       }},
  });
  check_all({
      {"feed_forward", "got [2, 3], [4, 5] and [3, 4]",
       [] {
         return feed_forward(of({2, 3}), of({4, 5}), of({4}), of({3, 4}), of({3}));
       }},
      {"feed_forward", "got [2, 3], [4, 3] and [3, 5]",
       [] {
         return feed_forward(of({2, 3}), of({4, 3}), of({4}), of({3, 5}), of({3}));
       }},
      {"feed_forward", "expected biases [4] and [3], got [3] and [3]",
       [] {
         return feed_forward(of({2, 3}), of({4, 3}), of({3}), of({3, 4}), of({3}));
       }},
      {"feed_forward", "expected up_bias, got an undefined variable",
       [] {
         return feed_forward(of({2, 3}), of({4, 3}), none, of({3, 4}), of({3}));
       }},
      {"feed_forward", "down_weight must be float32 as x is, got float64",
       [] {
         return feed_forward(of({2, 3}), of({4, 3}), of({4}), of({3, 4}, f64), of({3}));
       }},
  });
  using Operation = std::pair<const char*, Variable (*)(const Variable&, const Variable&, const Variable&)>;
  for (const auto& [op, f] : {Operation{"linear", linear}, {"linear_gelu", linear_gelu}})
    check_all({
        {op, "got [2, 3] and [4, 5]",
         [f = f] {
           return f(of({2, 3}), of({4, 5}), none);
         }},
        {op, "got [] and [4, 5]",
         [f = f] {
           return f(of({}), of({4, 5}), none);
         }},
        {op, "got [2, 3] and [3]",
         [f = f] {
           return f(of({2, 3}), of({3}), none);
         }},
        {op, "bias must be [4], got [3]",
         [f = f] {
           return f(of({2, 3}), of({4, 3}), of({3}));
         }},
        {op, "weight must be float32 as x is, got float64",
         [f = f] {
           return f(of({2, 3}), of({4, 3}, f64), none);
         }},
        {op, "bias must be float32 as x is, got float64",
         [f = f] {
           return f(of({2, 3}), of({4, 3}), of({4}, f64));
         }},
    });
}
