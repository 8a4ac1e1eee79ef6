#include "models/layers.h"

namespace wedge {

Linear::Linear(std::int64_t in, std::int64_t out, Init& init)
    : weight(add_parameter("weight", init.linear_weight(out, in))),
      bias(add_parameter("bias", init.linear_bias(out, in))) {}

LayerNorm::LayerNorm(std::int64_t width, Init& init)
    : weight(add_parameter("weight", init.constant(width, 1))),
      bias(add_parameter("bias", init.constant(width, 0))) {}

Embedding::Embedding(std::int64_t rows, std::int64_t width, Init& init)
    : weight(add_parameter("weight", init.embedding(rows, width))) {}

FeedForward::FeedForward(std::int64_t width, std::int64_t expansion, Init& init)
    : up_(width, expansion * width, init), down_(expansion * width, width, init) {
  add_child("layers.0", up_);
  add_child("layers.2", down_);
}

}  // namespace wedge
