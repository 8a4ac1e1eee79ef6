// The GPU's own clock. Declared without CUDA and, as what tensor/cuda/gpu.h declares, used only where there
// is CUDA.
#pragma once

#include <functional>

namespace wedge::bench {

// Seconds between two events around what body() gives to the stream. Waits for it.
double gpu_seconds(const std::function<void()>& body);

}  // namespace wedge::bench
