// The layers that both models are made of.
#pragma once

#include "autograd/ops.h"
#include "models/init.h"
#include "models/module.h"

namespace wedge {

// y = x Wᵀ + b: [..., in] -> [..., out]
class Linear : public Module {
 public:
  Linear(std::int64_t in, std::int64_t out, Init& init);
  Variable operator()(const Variable& x) const { return linear(x, weight, bias); }

  Variable weight;  // [out, in]
  Variable bias;    // [out]
};

// Layer normalisation over the last dimension, eps 1e-5.
class LayerNorm : public Module {
 public:
  LayerNorm(std::int64_t width, Init& init);
  Variable operator()(const Variable& x) const { return layernorm(x, weight, bias); }
  // dropout(norm(x))
  Variable operator()(const Variable& x, const Dropout& dropout) const {
    return layernorm_dropout(x, weight, bias, dropout);
  }
  // norm(h + dropout(x))
  Variable operator()(const Variable& h, const Variable& x, const Dropout& dropout) const {
    return residual_layernorm(h, x, dropout, weight, bias);
  }

  Variable weight, bias;  // [width]
};

// A learned table of rows, which token_position_embedding looks up.
class Embedding : public Module {
 public:
  Embedding(std::int64_t rows, std::int64_t width, Init& init);

  Variable weight;  // [rows, width]
};

// Linear(d, e·d) -> GELU (exact) -> Linear(e·d, d)
class FeedForward : public Module {
 public:
  FeedForward(std::int64_t width, std::int64_t expansion, Init& init);
  Variable operator()(const Variable& h) const {
    return feed_forward(h, up_.weight, up_.bias, down_.weight, down_.bias);
  }

 private:
  Linear up_, down_;
};

}  // namespace wedge
