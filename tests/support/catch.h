// Catch2, whichever major version the system has. Approx and Catch::Matchers::ContainsSubstring are spelled
// alike.
#pragma once

#if WEDGE_CATCH2_MAJOR >= 3
#include <catch2/catch_all.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
namespace Catch::Matchers {
inline auto ContainsSubstring(const std::string& text) {
  return Contains(text);
}
}  // namespace Catch::Matchers
#endif
