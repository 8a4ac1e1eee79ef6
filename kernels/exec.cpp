#include "kernels/exec.h"

#include "tensor/check.h"

namespace wedge {

void refuse(const char* kernel, DType dtype, Device device) {
  throw Error(fmt::format("{}: not for {} on {}", kernel, name_of(dtype), name_of(device)));
}

}  // namespace wedge
