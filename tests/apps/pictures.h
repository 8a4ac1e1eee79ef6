// For tests of what gnuplot draws.
#pragma once

#include <cstdlib>
#include <string>

#include "tests/support/catch.h"

namespace wedge::test {

inline bool have_gnuplot() {
  const bool have = std::system("gnuplot --version > /dev/null 2>&1") == 0;
  if (!have) WARN("skipped: no gnuplot");
  return have;
}

// How often `word` stands in `text`.
inline std::size_t count(const std::string& text, const std::string& word) {
  std::size_t n = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++n;
  return n;
}

}  // namespace wedge::test
