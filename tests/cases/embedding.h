// embedding, gather and token_position_embedding against products with one-hot rows.
#pragma once

#include "tests/cases/case.h"
#include "tests/cases/reference.h"

namespace wedge::cases {

// How many of V rows n ids name that are drawn at random: so many are read, each once.
inline double rows_named(std::int64_t n, std::int64_t V) {
  return static_cast<double>(V) * (1 - std::pow(1 - 1 / static_cast<double>(V), static_cast<double>(n)));
}

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
    const auto t = static_cast<double>(numel(lead)), d = static_cast<double>(D);
    return {0, 4 * (t + rows_named(numel(lead), V) * d + t * d)};
  }
  Work backward_work() const {
    const auto t = static_cast<double>(numel(lead)), d = static_cast<double>(D);
    return {t * d, 4 * (t + t * d + static_cast<double>(V) * d)};
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

struct TokenPosition {
  std::int64_t B, L, V, P, D;
  std::int64_t begin = 0;
  double rate = 0.1;
  std::uint64_t seed = 13;

  std::string name() const { return "token_position_embedding"; }
  std::string sizes() const {
    return fmt::format("B={} L={} V={} P={} D={} begin={} rate={} seed={}", B, L, V, P, D, begin, rate, seed);
  }
  static constexpr std::uint32_t kSite = 5;

  std::vector<Tensor> inputs(DType dtype) const {
    Draw draw(seed, dtype);
    return {draw.normal({V, D}), draw.normal({P, D}), draw.ids({B, L}, V),
            Tensor::from<std::int64_t>({42, 3, 1}, {3})};
  }
  Variable run(const Inputs& in) const {
    return token_position_embedding(in[0], in[1], in[2].value(), begin, {rate, kSite, in[3].value()});
  }
  Variable twin(const Inputs& in) const {
    const Tensor flat = in[2].value().reshape({-1});
    const Variable tokens = reshape(matmul(one_hot(flat, V, in[0].dtype()), in[0]), {B, L, D});
    return dropout_mask_of({B, L, D}, rate, kSite, in[3].value(), in[0].dtype()) *
           (tokens + slice(in[1], 0, begin, begin + L));
  }

  Work forward_work() const {
    const auto t = static_cast<double>(B * L), d = static_cast<double>(D);
    return {2 * t * d, 4 * (t + (rows_named(B * L, V) + static_cast<double>(L)) * d + t * d)};
  }
  Work backward_work() const {
    const auto t = static_cast<double>(B * L), d = static_cast<double>(D);
    return {3 * t * d, 4 * (t + t * d + static_cast<double>(V + P) * d)};
  }
};

inline std::vector<Case> token_position_cases() {
  return make_cases<TokenPosition>(
      {{.B = 1, .L = 1, .V = 1, .P = 1, .D = 1},
       {.B = 2, .L = 3, .V = 5, .P = 7, .D = 4, .begin = 4, .rate = 0},
       {.B = 3, .L = 2, .V = 4, .P = 4, .D = 5, .begin = 1, .rate = 0.5},
       {.B = 5, .L = 7, .V = 2, .P = 7, .D = 8, .rate = 0.3},  // every row several times
       {.B = 70, .L = 2, .V = 3, .P = 3, .D = 68},             // long runs of one id, long sums over B
       {.B = 9, .L = 17, .V = 61, .P = 20, .D = 67, .begin = 2}});
}

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
  return make_cases<EmbeddingCase>({{.lead = {16, 128}, .V = 30522, .D = 256}}) +
         make_cases<TokenPosition>({{.B = 32, .L = 128, .V = 30522, .P = 128, .D = 256},
                                    {.B = 512, .L = 128, .V = 30522, .P = 128, .D = 256}});
}

}  // namespace wedge::cases
