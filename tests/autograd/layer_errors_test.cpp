// What operations on indices, normalisations, dropout and mixers refuse.
#include <cmath>
#include <limits>

#include "tests/autograd/refused.h"

using namespace wedge;
using namespace wedge::test;

TEST_CASE("operations on indices refuse other dtypes and numbers out of range", "[errors]") {
  check_all({
      {"embedding", "weight must be [V, D], got [3]", [] { return embedding(of({3}), ids({0}, {1})); }},
      {"embedding", "index must be in [0, 3), got 3 at 1",
       [] {
         return embedding(of({3, 2}), ids({0, 3}, {2}));
       }},
      {"embedding", "got -1 at 0",
       [] {
         return embedding(of({3, 2}), ids({-1}, {1}));
       }},
      {"embedding", "indices must be int32, got int64",
       [] {
         return embedding(of({3, 2}), Tensor::zeros({1}, DType::i64));
       }},
      {"token_position_embedding", "token_weight must be [V, D], got [3]",
       [] {
         return token_position_embedding(of({3}), of({2, 4}), ids({0}, {1, 1}));
       }},
      {"token_position_embedding", "position_weight must be [P, D], got [3]",
       [] {
         return token_position_embedding(of({3, 4}), of({3}), ids({0}, {1, 1}));
       }},
      {"token_position_embedding", "position_weight must be [P, 4], got [2, 5]",
       [] {
         return token_position_embedding(of({3, 4}), of({2, 5}), ids({0}, {1, 1}));
       }},
      {"token_position_embedding", "position_weight must be float32 as token_weight is, got float64",
       [] {
         return token_position_embedding(of({3, 4}), of({2, 4}, f64), ids({0}, {1, 1}));
       }},
      {"token_position_embedding", "ids must be [B, L], got [1]",
       [] {
         return token_position_embedding(of({3, 4}), of({2, 4}), ids({0}, {1}));
       }},
      {"token_position_embedding", "positions must be in [0, 2), got 1 from 2 on",
       [] {
         return token_position_embedding(of({3, 4}), of({2, 4}), ids({0}, {1, 1}), 2);
       }},
      {"token_position_embedding", "positions must be in [0, 2), got 1 from -1 on",
       [] {
         return token_position_embedding(of({3, 4}), of({2, 4}), ids({0}, {1, 1}), -1);
       }},
      {"token_position_embedding", "positions must be in [0, 2), got 1 from 9223372036854775807 on",
       [] {
         return token_position_embedding(of({3, 4}), of({2, 4}), ids({0}, {1, 1}),
                                         std::numeric_limits<std::int64_t>::max());
       }},
      {"token_position_embedding", "expected indices, got an undefined tensor",
       [] {
         return token_position_embedding(of({3, 4}), of({2, 4}), {});
       }},
      {"embedding", "expected indices, got an undefined tensor",
       [] {
         return embedding(of({3, 4}), {});
       }},
      {"token_position_embedding", "index must be in [0, 3), got 3 at 0",
       [] {
         return token_position_embedding(of({3, 4}), of({2, 4}), ids({3}, {1, 1}));
       }},
      {"token_position_embedding", "rate must be in [0, 1), got 1",
       [] {
         return token_position_embedding(of({3, 4}), of({2, 4}), ids({0}, {1, 1}), 0, {1, 0, {}});
       }},
      {"gather", "ids must be [2], got [3]",
       [] {
         return gather(of({2, 3}), ids({0, 0, 0}, {3}));
       }},
      {"gather", "index must be in [0, 3), got 3",
       [] {
         return gather(of({2, 3}), ids({0, 3}, {2}));
       }},
      {"gather", "got a scalar", [] { return gather(of({}), ids({0}, {})); }},
      {"cross_entropy", "targets must be [2], got [3]",
       [] {
         return cross_entropy(of({2, 3}), ids({0, 0, 0}, {3}));
       }},
      {"cross_entropy", "index must be in [0, 3), got 3",
       [] {
         return cross_entropy(of({2, 3}), ids({0, 3}, {2}));
       }},
      {"cross_entropy", "got []", [] { return cross_entropy(of({}), ids({0}, {})); }},
      {"cross_entropy", "not empty",
       [] {
         return cross_entropy(of({0, 3}), ids({}, {0}));
       }},
      {"linear_cross_entropy", "got [2, 3] and [5, 4]",
       [] {
         return linear_cross_entropy(of({2, 3}), of({5, 4}), ids({0, 0}, {2}));
       }},
      {"linear_cross_entropy", "targets must be [2] and not empty, got [1]",
       [] {
         return linear_cross_entropy(of({2, 3}), of({5, 3}), ids({0}, {1}));
       }},
      {"linear_cross_entropy", "not empty",
       [] {
         return linear_cross_entropy(of({0, 3}), of({5, 3}), ids({}, {0}));
       }},
      {"linear_cross_entropy", "index must be in [0, 5), got 5",
       [] {
         return linear_cross_entropy(of({2, 3}), of({5, 3}), ids({0, 5}, {2}));
       }},
      {"linear_cross_entropy", "weight must be float32 as x is, got float64",
       [] {
         return linear_cross_entropy(of({2, 3}), of({5, 3}, f64), ids({0, 0}, {2}));
       }},
  });
}

TEST_CASE("normalisations refuse weights of another width", "[errors]") {
  const Dropout off;
  check_all({
      {"softmax", "expected [..., n] with n > 0, got []", [] { return softmax(of({})); }},
      {"log_softmax", "got [2, 0]",
       [] {
         return log_softmax(of({2, 0}));
       }},
      {"layernorm", "weight and bias must be [3], got [2] and [3]",
       [] {
         return layernorm(of({4, 3}), of({2}), of({3}));
       }},
      {"layernorm", "got [3] and [1, 3]",
       [] {
         return layernorm(of({4, 3}), of({3}), of({1, 3}));
       }},
      {"layernorm", "expected [..., D], got []", [] { return layernorm(of({}), of({1}), of({1})); }},
      {"layernorm", "weight must be float32 as x is, got float64",
       [] {
         return layernorm(of({4, 3}), of({3}, f64), of({3}));
       }},
      {"layernorm", "expected weight, got an undefined variable",
       [] {
         return layernorm(of({4, 3}), none, of({3}));
       }},
      {"layernorm", "eps must be at least 0, got -1",
       [] {
         return layernorm(of({4, 3}), of({3}), of({3}), -1);
       }},
      {"layernorm", "eps must be at least 0, got nan",
       [] {
         return layernorm(of({4, 3}), of({3}), of({3}), std::nan(""));
       }},
      {"residual_layernorm", "expected h, got an undefined variable",
       [&] {
         return residual_layernorm(none, of({4, 3}), off, of({3}), of({3}));
       }},
      {"residual_layernorm", "h must be float32 as x is, got float64",
       [&] {
         return residual_layernorm(of({4, 3}, f64), of({4, 3}), off, of({3}), of({3}));
       }},
      {"residual_layernorm", "one shape, got [3, 4] and [4, 3]",
       [&] {
         return residual_layernorm(of({3, 4}), of({4, 3}), off, of({3}), of({3}));
       }},
      {"residual_layernorm", "weight and bias must be [3]",
       [&] {
         return residual_layernorm(of({4, 3}), of({4, 3}), off, of({3}), of({4}));
       }},
  });
}

TEST_CASE("dropout refuses rates and counters that it does not understand", "[errors]") {
  const Tensor counter = Tensor::zeros({3}, DType::i64);
  for (const double rate : {-0.1, 1.0, std::nan("")}) {
    const Dropout bad{.rate = rate, .counter = counter};
    check_all({
        {"dropout", "rate must be in [0, 1)", [&] { return dropout(of({2}), bad); }},
        {"residual_dropout", "rate must be in [0, 1)",
         [&] { return residual_dropout(of({2}), of({2}), bad); }},
        {"residual_layernorm", "rate must be in [0, 1)",
         [&] { return residual_layernorm(of({2}), of({2}), bad, of({2}), of({2})); }},
    });
  }
  check_all({
      {"dropout", "counter must be int64 [3], got int32 [3]",
       [] { return dropout(of({2}), {.rate = 0.5, .counter = Tensor::zeros({3}, DType::i32)}); }},
      {"dropout", "got int64 [2]",
       [] { return dropout(of({2}), {.rate = 0.5, .counter = Tensor::zeros({2}, DType::i64)}); }},
      {"dropout", "got int32", [&] { return dropout(ids({1}, {1}), {.rate = 0.5, .counter = counter}); }},
      {"dropout", "site must be below 2^31, got 2147483648",
       [&] { return dropout(of({2}), {.rate = 0.5, .site = 0x80000000u, .counter = counter}); }},
      {"residual_dropout", "got [2] and [3]",
       [&] { return residual_dropout(of({2}), of({3}), {.rate = 0.5, .counter = counter}); }},
  });
}

TEST_CASE("mixers refuse widths and lags that do not fit", "[errors]") {
  check_all({
      {"causal_attention", "D a multiple of 2 heads, got [2, 3, 9]",
       [] {
         return causal_attention(of({2, 3, 9}), 2);
       }},
      {"causal_attention", "got [3, 6]",
       [] {
         return causal_attention(of({3, 6}), 1);
       }},
      {"causal_attention", "got [2, 3, 6]",
       [] {
         return causal_attention(of({2, 3, 6}), 0);
       }},
      {"causal_attention", "got [2, 3, 0]",
       [] {
         return causal_attention(of({2, 3, 0}), 1);
       }},
      {"plucker_linear", "expected z [B, L, R] with R >= 2, got [2, 3, 1]",
       [] {
         return plucker_linear(of({2, 3, 1}), of({4, 0}), none, {1});
       }},
      {"plucker_linear", "got [3, 4]",
       [] {
         return plucker_linear(of({3, 4}), of({4, 6}), none, {1});
       }},
      {"plucker_linear", "weight must be [D, 6], got [4, 5]",
       [] {
         return plucker_linear(of({2, 3, 4}), of({4, 5}), none, {1});
       }},
      {"plucker_linear", "bias must be [5], got [6]",
       [] {
         return plucker_linear(of({2, 3, 4}), of({5, 6}), of({6}), {1});
       }},
      {"plucker_linear", "lags must be >= 1, got 0",
       [] {
         return plucker_linear(of({2, 3, 4}), of({5, 6}), none, {1, 0});
       }},
      {"plucker_linear", "begin must be 0 to 3, got 4",
       [] {
         return plucker_linear(of({2, 3, 4}), of({5, 6}), none, {1}, 4);
       }},
      {"plucker_linear", "weight must be float32 as z is, got float64",
       [] {
         return plucker_linear(of({2, 3, 4}), of({5, 6}, f64), none, {1});
       }},
      {"gate_blend", "one shape [..., D], got [2, 3] and [3, 2]",
       [] {
         return gate_blend(of({2, 3}), of({3, 2}), of({3, 6}), none);
       }},
      {"gate_blend", "weight must be [3, 6] and bias [3], got [3, 3] and none",
       [] {
         return gate_blend(of({2, 3}), of({2, 3}), of({3, 3}), none);
       }},
      {"gate_blend", "got [3, 6] and [2]",
       [] {
         return gate_blend(of({2, 3}), of({2, 3}), of({3, 6}), of({2}));
       }},
      {"gate_blend", "weight must be float32 as h is, got float64",
       [] {
         return gate_blend(of({2, 3}), of({2, 3}), of({3, 6}, f64), none);
       }},
      {"self_attention",
       "expected x [B, L, K], qkv_weight [3 D, K] and out_weight [M, D], got [2, 3, 4], [6, 5] and [4, 2]",
       [] {
         return self_attention(of({2, 3, 4}), of({6, 5}), of({6}), of({4, 2}), of({4}), 1);
       }},
      {"self_attention", "a multiple of 3 heads, got 2",
       [] {
         return self_attention(of({2, 3, 4}), of({6, 4}), of({6}), of({4, 2}), of({4}), 3);
       }},
      {"self_attention", "expected biases [6] and [4], got [2] and [4]",
       [] {
         return self_attention(of({2, 3, 4}), of({6, 4}), of({2}), of({4, 2}), of({4}), 1);
       }},
      {"self_attention", "out_weight must be float32 as x is, got float64",
       [] {
         return self_attention(of({2, 3, 4}), of({6, 4}), of({6}), of({4, 2}, f64), of({4}), 1);
       }},
      {"gate_layernorm", "one shape [..., D], got [2, 3] and [3, 2]",
       [] {
         return gate_layernorm(of({2, 3}), of({3, 2}), of({3, 6}), none, of({3}), of({3}), {});
       }},
      {"gate_layernorm", "norm_weight and norm_bias must be [3], got [3] and [2]",
       [] {
         return gate_layernorm(of({2, 3}), of({2, 3}), of({3, 6}), none, of({3}), of({2}), {});
       }},
      {"gate_layernorm", "norm_bias must be float32 as h is, got float64",
       [] {
         return gate_layernorm(of({2, 3}), of({2, 3}), of({3, 6}), none, of({3}), of({3}, f64), {});
       }},
      {"gate_layernorm", "rate must be in [0, 1), got 1",
       [] {
         return gate_layernorm(of({2, 3}), of({2, 3}), of({3, 6}), none, of({3}), of({3}), {.rate = 1});
       }},
  });
}
