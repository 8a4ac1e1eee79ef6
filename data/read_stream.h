// A stream as a text.
#pragma once

#include <cstddef>
#include <istream>
#include <string>

namespace wedge::data {

// All that comes, but not much more than `at_most` bytes: of a device or a pipe that has no end comes a text
// that is longer than that.
inline std::string read_stream(std::istream& in, std::size_t at_most) {
  std::string text, part(1 << 16, '\0');
  while (text.size() <= at_most && (in.read(part.data(), std::ssize(part)), in.gcount() > 0))
    text.append(part, 0, static_cast<std::size_t>(in.gcount()));
  return text;
}

}  // namespace wedge::data
