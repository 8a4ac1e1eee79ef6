// The GPU's own clock. Declared without CUDA and, as what tensor/cuda/gpu.h declares, used only where there
// is CUDA.
#pragma once

#include <cstddef>
#include <functional>

namespace wedge::bench {

// Seconds between two events around what body() gives to the stream. Waits for it.
double gpu_seconds(const std::function<void()>& body);

// Size of the GPU's second-level cache.
std::size_t gpu_l2_bytes();

}  // namespace wedge::bench
