// Tests that need a GPU: a real one, or the emulator's.
#pragma once

#include <cstdio>

#include "tensor/cuda/gpu.h"

namespace wedge::test {

// Says so when there is none.
inline bool skip_without_gpu() {
  if constexpr (kWithCuda) {
    if (cu::device_count() > 0) return false;
  }
  std::puts("skipped: no GPU");
  return true;
}

}  // namespace wedge::test
