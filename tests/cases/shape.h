// Operations that only move elements, against the elements' numbers worked out by index loops.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

// Any operation of one input whose every output element is an input element.
struct Move {
  std::string op;
  std::string parameters;
  Shape from, to;
  std::function<Variable(const Variable&)> function;
  std::function<std::int64_t(const std::vector<std::int64_t>&)> number;  // output index -> input number
  std::uint64_t seed = 17;

  std::string name() const { return op; }
  std::string sizes() const { return fmt::format("shape={} {} seed={}", to_string(from), parameters, seed); }
  std::vector<Tensor> inputs(DType dtype) const { return {Draw(seed, dtype).normal(from)}; }
  Variable run(const Inputs& in) const { return function(in[0]); }
  Variable twin(const Inputs& in) const { return pick(in[0], numbers_of(to, number), to); }
};

inline Move reshape_case(const Shape& from, const Shape& asked, const Shape& to) {
  return {"reshape",
          "to " + to_string(asked),
          from,
          to,
          [asked](const Variable& x) { return reshape(x, asked); },
          [to](const auto& index) { return number_in(to, index); }};
}

inline Move permute_case(const Shape& from, const std::vector<int>& order) {
  Shape to;
  for (const int d : order) to.push_back(from[d]);
  return {"permute",
          fmt::format("order=[{}]", fmt::join(order, ",")),
          from,
          to,
          [order](const Variable& x) { return permute(x, order); },
          [from, order](const auto& index) {
            std::vector<std::int64_t> at(index.size());
            for (std::size_t d = 0; d < order.size(); ++d) at[order[d]] = index[d];
            return number_in(from, at);
          }};
}

inline Move transpose_case(const Shape& from, int dim0, int dim1) {
  const int rank = static_cast<int>(from.size()), a = (dim0 + rank) % rank, b = (dim1 + rank) % rank;
  Shape to = from;
  std::swap(to[a], to[b]);
  return {"transpose",
          fmt::format("dims={},{}", dim0, dim1),
          from,
          to,
          [dim0, dim1](const Variable& x) { return transpose(x, dim0, dim1); },
          [from, a, b](auto index) {
            std::swap(index[a], index[b]);
            return number_in(from, index);
          }};
}

inline Move slice_case(const Shape& from, int dim, std::int64_t begin, std::int64_t end) {
  const int rank = static_cast<int>(from.size()), d = (dim + rank) % rank;
  Shape to = from;
  to[d] = end - begin;
  return {"slice",
          fmt::format("dim={} [{}, {})", dim, begin, end),
          from,
          to,
          [dim, begin, end](const Variable& x) { return slice(x, dim, begin, end); },
          [from, d, begin](auto index) {
            index[d] += begin;
            return number_in(from, index);
          }};
}

inline Move broadcast_case(const Shape& from, const Shape& to) {
  return {"broadcast_to",
          "to " + to_string(to),
          from,
          to,
          [to](const Variable& x) { return broadcast_to(x, to); },
          [from](const auto& index) {
            std::vector<std::int64_t> at(from.size());
            for (std::size_t d = 0; d < from.size(); ++d)
              at[d] = from[d] == 1 ? 0 : index[index.size() - from.size() + d];
            return number_in(from, at);
          }};
}

struct Concat {
  std::vector<Shape> parts;
  int dim;
  std::uint64_t seed = 18;

  std::string name() const { return "concat"; }
  std::string sizes() const {
    std::string text;
    for (const Shape& part : parts) text += to_string(part) + " ";
    return fmt::format("parts={}dim={} seed={}", text, dim, seed);
  }
  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    std::vector<Tensor> in;
    for (const Shape& part : parts) in.push_back(draw.normal(part));
    return in;
  }
  Variable run(const Inputs& in) const { return concat(in, dim); }
  // Each part, padded with zeros by a product with a shifted identity, and the sum of them all.
  Variable twin(const Inputs& in) const {
    const int rank = static_cast<int>(parts[0].size()), d = (dim + rank) % rank;
    std::int64_t total = 0, at = 0;
    for (const Shape& part : parts) total += part[d];
    Variable y;
    for (const Variable& x : in) {
      const Tensor place = Tensor::zeros({x.size(d), total}, x.dtype());
      for (std::int64_t i = 0; i < x.size(d); ++i)
        place.slice(0, i, i + 1).slice(1, at + i, at + i + 1).copy_from(Tensor::full({1, 1}, 1, x.dtype()));
      at += x.size(d);
      const Variable row = rank == 1 ? reshape(x, {1, -1}) : transpose(x, d, -1);
      Variable part = matmul(row, place);
      part = rank == 1 ? reshape(part, {-1}) : transpose(part, d, -1);
      y = y.defined() ? y + part : part;
    }
    return y;
  }
};

inline std::vector<Case> shape_cases() {
  return make_cases<Move>({
             reshape_case({2, 3, 4}, {6, 4}, {6, 4}),
             reshape_case({2, 3, 4}, {-1, 2}, {12, 2}),
             reshape_case({6}, {2, 3, 1}, {2, 3, 1}),
             reshape_case({1}, {}, {}),
             reshape_case({}, {1, 1}, {1, 1}),
             reshape_case({0, 3}, {3, 0}, {3, 0}),
             permute_case({2, 3, 4}, {2, 0, 1}),
             permute_case({2, 3, 4}, {1, 0, 2}),
             permute_case({2, 1, 3, 2}, {3, 1, 0, 2}),
             permute_case({}, {}),
             permute_case({33, 31, 5}, {1, 2, 0}),
             transpose_case({2, 3}, 0, 1),
             transpose_case({2, 3, 4}, -1, 0),
             transpose_case({2, 3, 4}, 1, 1),
             slice_case({5}, 0, 1, 4),
             slice_case({2, 5, 3}, 1, 2, 5),
             slice_case({2, 5, 3}, -1, 0, 2),
             slice_case({4, 2}, 0, 1, 2),
             slice_case({4, 2}, 0, 0, 4),
             slice_case({4, 2}, 0, 3, 3),  // nothing
             broadcast_case({3}, {2, 3}),
             broadcast_case({2, 1}, {2, 3}),
             broadcast_case({}, {2, 2}),
             broadcast_case({1, 3, 1}, {2, 2, 3, 4}),
             broadcast_case({2, 3}, {2, 3}),
         }) +
         make_cases<Concat>({{.parts = {{2, 3}}, .dim = 0},
                             {.parts = {{2, 3}, {4, 3}}, .dim = 0},
                             {.parts = {{2, 3}, {2, 3}}, .dim = 1},
                             {.parts = {{2, 1, 2}, {2, 3, 2}, {2, 2, 2}}, .dim = -2},
                             {.parts = {{2, 2, 1}, {2, 2, 0}, {2, 2, 3}}, .dim = 2},
                             {.parts = {{3}, {1}}, .dim = 0},
                             {.parts = {{5, 31, 7}, {5, 33, 7}}, .dim = 1}});
}

}  // namespace wedge::cases
