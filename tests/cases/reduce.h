// Reductions: sums and means against products with ones, maxima against the elements that an index loop
// finds.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct ReduceCase {
  enum class Kind { sum, mean, max };
  Kind kind;
  Shape shape;
  int dim = 0;
  bool keep_dim = false;
  bool everything = false;  // over all elements; dim and keep_dim say nothing
  std::uint64_t seed = 15;

  std::string name() const {
    const char* names[] = {"sum", "mean", "max"};
    return names[static_cast<int>(kind)];
  }
  std::string sizes() const {
    return everything
               ? fmt::format("shape={} over everything seed={}", to_string(shape), seed)
               : fmt::format("shape={} dim={} keep_dim={} seed={}", to_string(shape), dim, keep_dim, seed);
  }
  std::vector<Tensor> inputs(DType dtype) const { return {Draw(seed, dtype).normal(shape)}; }
  Variable run(const Inputs& in) const {
    if (everything) return kind == Kind::sum ? sum(in[0]) : mean(in[0]);
    if (kind == Kind::max) return max(in[0], dim, keep_dim);
    return kind == Kind::sum ? sum(in[0], dim, keep_dim) : mean(in[0], dim, keep_dim);
  }
  Variable twin(const Inputs& in) const {
    const int rank = static_cast<int>(shape.size()), d = everything ? 0 : (dim + rank) % rank;
    std::int64_t outer = 1, inner = 1;
    const std::int64_t n = everything ? numel(shape) : shape[d];
    for (int i = 0; i < d; ++i) outer *= shape[i];
    for (int i = d + 1; i < rank && !everything; ++i) inner *= shape[i];
    std::vector<std::int64_t> numbers;
    const std::vector<double> x = in[0].value().to_vector();
    for (std::int64_t o = 0; o < outer; ++o)
      for (std::int64_t i = 0; i < inner; ++i) {
        std::int64_t best = o * n * inner + i;
        for (std::int64_t k = 0; k < n; ++k) {
          const std::int64_t number = (o * n + k) * inner + i;
          if (kind != Kind::max) numbers.push_back(number);
          if (kind == Kind::max && x[number] > x[best]) best = number;
        }
        if (kind == Kind::max) numbers.push_back(best);
      }
    if (kind == Kind::max) return pick(in[0], numbers, result_shape());
    const double weight = kind == Kind::mean ? 1 / static_cast<double>(n) : 1;
    const Variable ones = Tensor::full({n, 1}, weight, in[0].dtype());
    return reshape(matmul(pick(in[0], numbers, {outer * inner, n}), ones), result_shape());
  }
  Shape result_shape() const {
    if (everything) return {};
    Shape out = shape;
    const int rank = static_cast<int>(shape.size()), d = (dim + rank) % rank;
    if (keep_dim)
      out[d] = 1;
    else
      out.erase(out.begin() + d);
    return out;
  }

  Work forward_work() const {
    const auto n = static_cast<double>(numel(shape)), out = static_cast<double>(numel(result_shape()));
    return {n, 4 * (n + out)};
  }
  // A maximum looks for itself in x again.
  Work backward_work() const {
    const Work forward = forward_work();
    return {forward.flops, forward.bytes * (kind == Kind::max ? 2 : 1)};
  }
};

inline std::vector<Case> reduce_cases() {
  using enum ReduceCase::Kind;
  std::vector<ReduceCase> ops;
  for (const auto kind : {sum, mean, max}) {
    for (const int dim : {0, 1, 2, -1})
      for (const bool keep_dim : {false, true})
        ops.push_back({.kind = kind, .shape = {2, 3, 4}, .dim = dim, .keep_dim = keep_dim});
    ops.push_back({.kind = kind, .shape = {1}, .dim = 0});
    ops.push_back({.kind = kind, .shape = {3, 1, 2}, .dim = 1});
    ops.push_back({.kind = kind, .shape = {31, 33}, .dim = 0});
    ops.push_back({.kind = kind, .shape = {33, 31}, .dim = 1});
    ops.push_back({.kind = kind, .shape = {3, 129, 131}, .dim = 1});
    ops.push_back({.kind = kind, .shape = {129, 257}, .dim = -1});
    ops.push_back({.kind = kind, .shape = {40001}, .dim = 0});  // one long row, cut into parts
    if (kind == max) continue;
    for (const Shape& shape : {Shape{}, Shape{2, 3}, Shape{7, 11, 257}})
      ops.push_back({.kind = kind, .shape = shape, .everything = true});
  }
  ops.push_back({.kind = sum, .shape = {2, 0, 3}, .dim = 1});  // an empty sum is zero
  return make_cases(ops);
}

inline std::vector<Case> reduce_bench() {
  using enum ReduceCase::Kind;
  return make_cases<ReduceCase>(
      {{.kind = sum, .shape = {2048, 1024}, .dim = 0}, {.kind = sum, .shape = {2048, 1024}, .dim = 1}});
}

}  // namespace wedge::cases
