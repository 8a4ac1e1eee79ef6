#include "apps/device.h"

#include "tensor/check.h"
#include "tensor/cuda/gpu.h"

namespace wedge::app {

Device resolve_device(const std::string& name) {
  if (name == "cpu") return Device::cpu;
  if constexpr (kWithCuda) {
    if (cu::device_count() > 0) return Device::cuda;
    WEDGE_CHECK(name != "cuda", "train.device=cuda: no GPU: {}", cu::why_no_device());
  }
  WEDGE_CHECK(name != "cuda", "train.device=cuda: this build of wedge has no CUDA");
  return Device::cpu;
}

}  // namespace wedge::app
