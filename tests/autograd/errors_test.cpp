// Every operation refuses what does not fit, with an error that names it, what it expected and what came.
#include <cmath>
#include <functional>
#include <limits>

#include "autograd/ops.h"
#include "tests/support/catch.h"

using namespace wedge;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

namespace {

Variable of(Shape shape, DType dtype = DType::f32) {
  return parameter(Tensor::full(std::move(shape), 0.5, dtype));
}

Tensor ids(std::vector<std::int32_t> values, Shape shape) {
  return Tensor::from<std::int32_t>(values, std::move(shape));
}

struct Refused {
  const char* op;
  const char* text;  // of the message, after the operation's name
  std::function<Variable()> call;
};

void check_all(const std::vector<Refused>& all) {
  for (const Refused& refused : all) {
    CAPTURE(refused.op, refused.text);
    CHECK_THROWS_AS(refused.call(), Error);
    CHECK_THROWS_WITH(refused.call(),
                      StartsWith(std::string(refused.op) + ": ") && ContainsSubstring(refused.text));
  }
}

const DType f64 = DType::f64;
const Variable none;

}  // namespace

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
      {"token_position_embedding", "expected ids, got an undefined tensor",
       [] {
         return token_position_embedding(of({3, 4}), of({2, 4}), {});
       }},
      {"embedding", "expected ids, got an undefined tensor",
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
