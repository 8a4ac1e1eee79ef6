// Where a tensor's bytes live.
#pragma once

#include <cstdint>
#include <string_view>

namespace wedge {

enum class Device : std::uint8_t { cpu, cuda };

constexpr std::string_view name_of(Device device) {
  return device == Device::cpu ? "cpu" : "cuda";
}

}  // namespace wedge
