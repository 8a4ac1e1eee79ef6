// Tests that need a GPU: a real one, or the emulator's.
#pragma once

#include <cstdint>
#include <utility>

#include "tensor/cuda/gpu.h"
#include "tensor/rng.h"
#include "tensor/tensor.h"

namespace wedge::test {

// Says so when there is none.
bool skip_without_gpu();

// Normal numbers of float32 on it.
inline Tensor random_on_gpu(Shape shape, std::uint64_t seed) {
  Rng rng(seed);
  return Tensor::normal(std::move(shape), rng, 0, 1).to(Device::cuda);
}

}  // namespace wedge::test
