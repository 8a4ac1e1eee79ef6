#include "tests/support/gpu.h"

#include <cstdio>

namespace wedge::test {

bool skip_without_gpu() {
  if constexpr (kWithCuda)
    if (cu::device_count() > 0) return false;
  std::puts("skipped: no GPU");
  return true;
}

}  // namespace wedge::test
