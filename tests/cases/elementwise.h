// Elementwise operations: functions against the C++ library's in float64, binary operations against operands
// that were written out to the full shape by index loops.
#pragma once

#include <numbers>

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct Unary {
  std::string op;
  Variable (*function)(const Variable&);
  double (*f)(double);
  double (*df)(double);
  Shape shape;
  double low = -3, high = 3;  // where x is drawn from
  double floor = 0;           // 1: values and slopes that tend to 0 or 1 are as exact as 1 is
  std::uint64_t seed = 13;

  std::string name() const { return op; }
  std::string sizes() const {
    return fmt::format("shape={} x in [{}, {}) seed={}", to_string(shape), low, high, seed);
  }
  std::vector<Tensor> inputs(DType dtype) const { return {Draw(seed, dtype).uniform(shape, low, high)}; }
  Variable run(const Inputs& in) const { return function(in[0]); }
  Variable twin(const Inputs& in) const { return pointwise(in[0], f, df); }
  Tolerance tolerance() const { return {1e-12, 1e-5, floor}; }

  Work forward_work() const {
    return {static_cast<double>(numel(shape)), 8.0 * static_cast<double>(numel(shape))};
  }
  // Of x and y one is read.
  Work backward_work() const {
    return {2.0 * static_cast<double>(numel(shape)), 12.0 * static_cast<double>(numel(shape))};
  }
};

inline double gaussian_cdf_of(double x) {
  return 0.5 * std::erfc(-x / std::numbers::sqrt2);
}
inline double logistic_of(double x) {
  return 1 / (1 + std::exp(-x));
}

inline std::vector<Unary> unary_functions() {
  using D = double;
  const auto sech2 = [](D x) { return 1 / (std::cosh(x) * std::cosh(x)); };
  return {
      {"neg", neg, [](D x) { return -x; }, [](D) { return -1.0; }, {}},
      {"exp", exp, [](D x) { return std::exp(x); }, [](D x) { return std::exp(x); }, {}, -10, 3},
      {"log", log, [](D x) { return std::log(x); }, [](D x) { return 1 / x; }, {}, 0.05, 5},
      {"sqrt", sqrt, [](D x) { return std::sqrt(x); }, [](D x) { return 0.5 / std::sqrt(x); }, {}, 0.05, 5},
      {"square", square, [](D x) { return x * x; }, [](D x) { return 2 * x; }, {}},
      {"tanh", tanh, [](D x) { return std::tanh(x); }, sech2, {}, -12, 12, 1},
      {"sigmoid", sigmoid, logistic_of, [](D x) { return logistic_of(x) * logistic_of(-x); }, {}, -30, 30, 1},
      {"relu", relu, [](D x) { return x > 0 ? x : 0; }, [](D x) { return x > 0 ? 1.0 : 0.0; }, {}},
      {"gelu",
       gelu,
       [](D x) { return x * gaussian_cdf_of(x); },
       [](D x) { return gaussian_cdf_of(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); },
       {},
       -8,
       8,
       1},
  };
}

struct BinaryCase {
  std::string op;
  Variable (*function)(const Variable&, const Variable&);
  Shape a, b;
  std::uint64_t seed = 14;

  std::string name() const { return op; }
  std::string sizes() const { return fmt::format("a={} b={} seed={}", to_string(a), to_string(b), seed); }
  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    if (op == "div") return {draw.uniform(a, 0.5, 2), draw.uniform(b, -2, -0.5)};
    return {draw.normal(a), draw.normal(b)};
  }
  Variable run(const Inputs& in) const { return function(in[0], in[1]); }
  Variable twin(const Inputs& in) const {
    const Shape out = broadcast_shapes(a, b, "twin");
    const auto widen = [&](const Variable& x) {
      const Shape& from = x.shape();
      const auto number = [&](const std::vector<std::int64_t>& index) {
        std::int64_t n = 0;
        const std::size_t skip = out.size() - from.size();
        for (std::size_t d = 0; d < from.size(); ++d) n = n * from[d] + (from[d] == 1 ? 0 : index[skip + d]);
        return n;
      };
      return pick(x, numbers_of(out, number), {numel(out)});
    };
    const Variable x = widen(in[0]), y = widen(in[1]);
    if (op == "add") return reshape(neg(neg(x) - y), out);
    if (op == "sub") return reshape(x + neg(y), out);
    if (op == "mul") return reshape((square(x + y) - square(x - y)) * 0.25, out);
    const Variable reciprocal = pointwise(
        y, [](double v) { return 1 / v; }, [](double v) { return -1 / (v * v); });
    return reshape(x * reciprocal, out);
  }

  // x / x is 1 whatever x is: a gradient of zero, of terms of size 1.
  Tolerance tolerance() const { return {1e-12, 1e-5, op == "div" || op == "sub" ? 1.0 : 0.0}; }

  Work forward_work() const {
    const auto n = static_cast<double>(numel(broadcast_shapes(a, b, "case")));
    return {n, 4 * (n + static_cast<double>(numel(a) + numel(b)))};
  }
  // Of a product or quotient both operands are read again.
  Work backward_work() const {
    const Work forward = forward_work();
    const bool again = op == "mul" || op == "div";
    return {forward.flops, forward.bytes + (again ? 4 * static_cast<double>(numel(a) + numel(b)) : 0)};
  }
};

inline std::vector<Case> elementwise_cases() {
  std::vector<Case> cases;
  for (Unary op : unary_functions())
    for (const Shape& shape : {Shape{}, Shape{2, 3}, Shape{33}, Shape{0, 3}, Shape{5, 41, 211}}) {
      op.shape = shape;
      cases.push_back(make_case(op));
    }
  const std::vector<std::pair<Shape, Shape>> shapes = {
      {{2, 3}, {2, 3}},       {{2, 3, 4}, {4}},
      {{4}, {2, 3, 4}},       {{2, 3, 4}, {2, 1, 4}},
      {{2, 3, 4}, {3, 1}},    {{2, 1, 4}, {1, 3, 1}},
      {{1, 3, 1}, {2, 1, 4}}, {{2, 3}, {}},
      {{}, {2, 3}},           {{}, {}},
      {{1, 1}, {3}},          {{2, 0}, {1}},
      {{31, 33}, {33}},       {{2, 1, 3, 1, 2}, {3, 4, 1}},
      {{7, 5, 1031}, {5, 1}}, {{37, 1033}, {37, 1033}},
  };
  const std::pair<const char*, Variable (*)(const Variable&, const Variable&)> functions[] = {
      {"add", add}, {"sub", sub}, {"mul", mul}, {"div", div}};
  for (const auto& [op, function] : functions)
    for (const auto& [a, b] : shapes) cases.push_back(make_case(BinaryCase{op, function, a, b}));
  return cases;
}

inline std::vector<Case> elementwise_bench() {
  std::vector<Case> cases;
  for (const std::int64_t rows : {2048, 65536})
    for (Unary op : unary_functions()) {
      op.shape = {rows, 1024};
      if (op.op == "exp" || op.op == "gelu" || op.op == "sigmoid") cases.push_back(make_case(op));
    }
  for (const std::int64_t rows : {2048, 65536})
    cases.push_back(make_case(BinaryCase{"add", add, {rows, 256}, {rows, 256}}));
  cases.push_back(make_case(BinaryCase{"mul", mul, {2048, 256}, {256}}));
  return cases;
}

}  // namespace wedge::cases
