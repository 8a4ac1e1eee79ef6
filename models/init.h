// Initial weights. Drawn on the CPU, one sequential stream of random numbers a model, in the order of
// construction.
#pragma once

#include <cmath>
#include <string>

#include "models/model_config.h"
#include "tensor/rng.h"
#include "tensor/tensor.h"

namespace wedge {

// model.init=torch: Linear weight and bias uniform in ±1/sqrt(fan_in), embeddings N(0, 1).
// model.init=gpt2:  Linear and embedding weights N(0, 0.02), Linear biases 0.
class Init {
 public:
  Init(const ModelConfig& config, std::uint64_t seed, DType dtype, Device device)
      : gpt2_(config.init == "gpt2"), rng_(seed, RandomStream::init), dtype_(dtype), device_(device) {}

  Tensor linear_weight(std::int64_t out, std::int64_t in) {
    return gpt2_ ? normal({out, in}, 0.02) : uniform({out, in}, in);
  }
  Tensor linear_bias(std::int64_t out, std::int64_t in) {
    return gpt2_ ? constant(out, 0) : uniform({out}, in);
  }
  Tensor embedding(std::int64_t rows, std::int64_t width) {
    return normal({rows, width}, gpt2_ ? 0.02 : 1.0);
  }
  Tensor constant(std::int64_t n, double value) { return Tensor::full({n}, value, dtype_, device_); }

 private:
  Tensor uniform(Shape shape, std::int64_t fan_in) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
    return Tensor::uniform(std::move(shape), rng_, -bound, bound, dtype_).to(device_);
  }
  Tensor normal(Shape shape, double deviation) {
    return Tensor::normal(std::move(shape), rng_, 0, deviation, dtype_).to(device_);
  }

  bool gpt2_;
  Rng rng_;
  DType dtype_;
  Device device_;
};

}  // namespace wedge
