// embedding and gather against products with one-hot rows.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

struct EmbeddingCase {
  Shape lead;  // of the ids
  std::int64_t V, D;
  std::uint64_t seed = 11;

  std::string name() const { return "embedding"; }
  std::string sizes() const { return fmt::format("ids={} V={} D={} seed={}", to_string(lead), V, D, seed); }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    return {draw.normal({V, D}), draw.ids(lead, V)};
  }
  Variable run(const Inputs& in) const { return embedding(in[0], in[1].value()); }
  Variable twin(const Inputs& in) const {
    Shape shape = lead;
    shape.push_back(D);
    const Tensor flat = in[1].value().reshape({-1});
    return reshape(matmul(one_hot(flat, V, in[0].dtype()), in[0]), shape);
  }

  Work forward_work() const {
    const auto n = static_cast<double>(numel(lead) * D);
    return {0, 4 * 2 * n};
  }
  Work backward_work() const {
    const auto n = static_cast<double>(numel(lead) * D);
    return {n, 4 * (2 * n + static_cast<double>(V * D))};
  }
};

struct Gather {
  Shape lead;
  std::int64_t N;
  std::uint64_t seed = 12;

  std::string name() const { return "gather"; }
  std::string sizes() const { return fmt::format("ids={} N={} seed={}", to_string(lead), N, seed); }

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    Shape shape = lead;
    shape.push_back(N);
    return {draw.normal(shape), draw.ids(lead, N)};
  }
  Variable run(const Inputs& in) const { return gather(in[0], in[1].value()); }
  Variable twin(const Inputs& in) const { return sum(one_hot(in[1].value(), N, in[0].dtype()) * in[0], -1); }
};

inline std::vector<Case> embedding_cases() {
  return make_cases<EmbeddingCase>({{.lead = {}, .V = 3, .D = 2},
                                    {.lead = {2, 3}, .V = 5, .D = 4},
                                    {.lead = {9}, .V = 2, .D = 3},  // every row several times
                                    {.lead = {3}, .V = 1, .D = 1},
                                    {.lead = {31}, .V = 33, .D = 31},
                                    {.lead = {4, 131}, .V = 37, .D = 67}}) +
         make_cases<Gather>({{.lead = {}, .N = 4},
                             {.lead = {6}, .N = 1},
                             {.lead = {2, 3}, .N = 5},
                             {.lead = {5, 33}, .N = 31}});
}

inline std::vector<Case> embedding_bench() {
  return make_cases<EmbeddingCase>({{.lead = {16, 128}, .V = 30522, .D = 256}});
}

}  // namespace wedge::cases
