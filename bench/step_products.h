// The matrix products of a training step, counted in one place for all programs here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/model_config.h"
#include "tensor/device.h"

namespace wedge::bench {

// y [M, N] = x [M, K] Wᵀ, forward. Its backward has two as large: dx = dy W and dW = dyᵀ x.
struct LinearProduct {
  std::string name;
  std::int64_t M, N, K;
  std::int64_t count;  // of these alike in a step
  // Multiplications and additions, forward.
  double flops() const { return 2.0 * static_cast<double>(M * N * K * count); }
};

// Those of one layer's mixer over `tokens` tokens, attention's between queries, keys and values left out.
std::vector<LinearProduct> mixer_products(const ModelConfig& config, std::int64_t tokens);

// Those of a step, as `device` makes them: the head's are of some rows at a time on the CPU; on the GPU of
// all, as two of its three are there, and of padded_classes(V).
std::vector<LinearProduct> step_products(const ModelConfig& config, std::int64_t tokens, Device device);

}  // namespace wedge::bench
