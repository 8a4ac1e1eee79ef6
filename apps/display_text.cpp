#include "apps/display_text.h"

#include <algorithm>
#include <cstdint>

#include "data/unicode.h"

namespace wedge::app {

std::string valid_utf8(std::string_view text) {
  std::string valid;
  while (const auto bad = data::find_invalid_utf8(text)) {
    valid += text.substr(0, *bad);
    valid += "\uFFFD";
    text.remove_prefix(*bad + 1);
  }
  valid += text;
  return valid;
}

std::string one_line(std::string_view text) {
  const std::string valid = valid_utf8(text);
  std::string line;
  for (std::size_t i = 0; i < valid.size();) {
    const std::int32_t c = data::next_code_point(valid, i);
    const bool is_control = c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x2028 || c == 0x2029;
    const bool is_noncharacter = (c & 0xFFFE) == 0xFFFE || (c >= 0xFDD0 && c <= 0xFDEF);
    data::append_utf8(line, is_control ? ' ' : is_noncharacter ? 0xFFFD : c);
  }
  return line;
}

std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string shorten_middle(const std::string& text, std::size_t most) {
  const std::string valid = valid_utf8(text);
  const std::size_t count = count_characters(valid);
  if (count <= most) return text;
  // Of what tells runs apart the keys stand last: the end gets as much as the beginning.
  const std::size_t head = most / 2, tail = count - (most - 1 - head);
  std::string shortened;
  for (std::size_t i = 0, n = 0; i < valid.size(); ++n) {
    const std::size_t begin = i;
    data::next_code_point(valid, i);
    if (n == head) shortened += "…";
    if (n < head || n >= tail) shortened.append(valid, begin, i - begin);
  }
  return shortened;
}

}  // namespace wedge::app
