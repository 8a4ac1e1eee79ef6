// From train.device to a device.
#pragma once

#include <string>

#include "tensor/device.h"

namespace wedge::app {

// "cpu"; "cuda": the first GPU that CUDA shows, wedge::Error where there is none or this build has no CUDA;
// "auto": the GPU if there is one, else the CPU.
Device resolve_device(const std::string& name);

}  // namespace wedge::app
