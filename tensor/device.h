// Where a tensor's bytes live.
#pragma once

#include <cstdint>
#include <string_view>

namespace wedge {

enum class Device : std::uint8_t { cpu, cuda };

// Whether this build has kernels for a GPU.
#if defined(WEDGE_WITH_CUDA)
inline constexpr bool kWithCuda = true;
#else
inline constexpr bool kWithCuda = false;
#endif

constexpr std::string_view name_of(Device device) {
  return device == Device::cpu ? "cpu" : "cuda";
}

}  // namespace wedge
