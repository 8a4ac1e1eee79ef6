// matmul against a broadcast product summed over the middle dimension.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct Matmul {
  Shape a, b;                                     // as stored
  bool transpose_a = false, transpose_b = false;  // of the last two dimensions, as views
  std::uint64_t seed = 16;

  std::string name() const { return "matmul"; }
  std::string sizes() const {
    return fmt::format("a={}{} b={}{} seed={}", to_string(a), transpose_a ? "ᵀ" : "", to_string(b),
                       transpose_b ? "ᵀ" : "", seed);
  }
  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    return {draw.normal(a), draw.normal(b)};
  }
  Variable left(const Inputs& in) const { return transpose_a ? transpose(in[0], -2, -1) : in[0]; }
  Variable right(const Inputs& in) const { return transpose_b ? transpose(in[1], -2, -1) : in[1]; }

  Variable run(const Inputs& in) const { return matmul(left(in), right(in)); }
  Variable twin(const Inputs& in) const {
    const Variable x = left(in), y = transpose(right(in), -2, -1);
    Shape wide_x = x.shape(), wide_y = y.shape();
    wide_x.insert(wide_x.end() - 1, 1);  // [..., M, 1, K]
    wide_y.insert(wide_y.end() - 2, 1);  // [..., 1, N, K]
    return sum(reshape(x, wide_x) * reshape(y, wide_y), -1);
  }

  Work forward_work() const {
    const Inputs in = {Tensor::empty(a), Tensor::empty(b)};
    const Shape x = left(in).shape(), y = right(in).shape();
    const Shape batch =
        broadcast_shapes(Shape(x.begin(), x.end() - 2), Shape(y.begin(), y.end() - 2), "case");
    const auto count = static_cast<double>(numel(batch)), M = static_cast<double>(x[x.size() - 2]),
               K = static_cast<double>(x.back()), N = static_cast<double>(y.back());
    return {2 * count * M * N * K, 4 * (static_cast<double>(numel(a) + numel(b)) + count * M * N)};
  }
  // Two products, which share the output's gradient.
  Work backward_work() const {
    const Work forward = forward_work();
    return {2 * forward.flops, forward.bytes + 4 * static_cast<double>(numel(a) + numel(b))};
  }
};

// Operands whose rows lie apart, overlap or do not step at all.
struct MatmulOfViews {
  std::string label;
  Shape a, b;  // as stored
  std::function<Variable(const Variable&)> view_a, view_b;
  std::uint64_t seed = 19;

  std::string name() const { return "matmul"; }
  std::string sizes() const {
    return fmt::format("{} of a={} b={} seed={}", label, to_string(a), to_string(b), seed);
  }
  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    return {draw.normal(a), draw.normal(b)};
  }
  Variable run(const Inputs& in) const { return matmul(view_a(in[0]), view_b(in[1])); }
  // Two matrices; the views are written out by the twins of the operations that made them.
  Variable twin(const Inputs& in) const {
    const Variable x = view_a(in[0]), y = transpose(view_b(in[1]), 0, 1);
    return sum(reshape(x, {x.size(0), 1, x.size(1)}) * reshape(y, {1, y.size(0), y.size(1)}), -1);
  }
};

inline std::vector<MatmulOfViews> matmul_of_views() {
  const auto whole = [](const Variable& x) { return x; };
  const auto inner = [](const Variable& x) { return slice(x, 1, 1, x.size(1) - 1); };
  const auto rows = [](const Variable& x) { return broadcast_to(x, {5, x.size(1)}); };
  const auto columns = [](const Variable& x) { return broadcast_to(x, {x.size(0), 5}); };
  return {
      {"inner columns", {3, 7}, {5, 6}, inner, inner},
      {"inner columns, transposed",
       {3, 7},
       {4, 7},
       inner,
       [=](const Variable& x) { return transpose(inner(x), 0, 1); }},
      {"one row, repeated,", {1, 4}, {4, 3}, rows, whole},
      {"one row, repeated,", {3, 5}, {1, 4}, whole, rows},
      {"one column, repeated,", {3, 1}, {5, 2}, columns, whole},
      {"one column, repeated,", {3, 4}, {4, 1}, whole, columns},
      {"one number, repeated,",
       {1, 1},
       {5, 2},
       [=](const Variable& x) {
         return broadcast_to(x, {3, 5});
       },
       whole},
  };
}

inline std::vector<Case> matmul_cases() {
  std::vector<Matmul> ops;
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      ops.push_back({ta ? Shape{4, 3} : Shape{3, 4}, tb ? Shape{5, 4} : Shape{4, 5}, ta, tb});
      ops.push_back(
          {ta ? Shape{2, 1, 4, 3} : Shape{2, 1, 3, 4}, tb ? Shape{3, 2, 4} : Shape{3, 4, 2}, ta, tb});
      ops.push_back({ta ? Shape{33, 31} : Shape{31, 33}, tb ? Shape{65, 33} : Shape{33, 65}, ta, tb});
    }
  for (const auto& [a, b] : std::vector<std::pair<Shape, Shape>>{{{1, 1}, {1, 1}},
                                                                 {{1, 3}, {3, 1}},
                                                                 {{3, 1}, {1, 2}},
                                                                 {{4, 2}, {2, 4}},
                                                                 {{3, 3}, {3, 3}},
                                                                 {{2, 3, 4}, {4, 2}},  // right one shared
                                                                 {{3, 4}, {2, 4, 2}},  // left one shared
                                                                 {{2, 3, 4}, {1, 4, 2}},
                                                                 {{2, 1, 2, 3}, {1, 3, 3, 2}},
                                                                 {{3, 2, 1, 2, 2}, {2, 2, 2, 1}},
                                                                 {{2, 0}, {0, 3}},  // an empty sum is zero
                                                                 {{3, 5, 17, 33}, {3, 5, 33, 9}}})
    ops.push_back({a, b});
  return make_cases(ops) + make_cases(matmul_of_views());
}

inline std::vector<Case> matmul_bench() {
  return make_cases<Matmul>({{{1024, 1024}, {1024, 1024}}, {{64, 128, 64}, {64, 128, 64}, false, true}});
}

}  // namespace wedge::cases
