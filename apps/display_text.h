// Texts that come from outside, such as names of folders, made fit to be shown.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace wedge::app {

// What is not UTF-8 becomes U+FFFD.
std::string valid_utf8(std::string_view text);

// The same in one line that any XML can hold: control characters become spaces, noncharacters U+FFFD.
std::string one_line(std::string_view text);

// Code points, not bytes: ± has two.
std::size_t count_characters(std::string_view text);

// `text`, with an ellipsis in place of its middle where it has more than `most` characters.
std::string shorten_middle(const std::string& text, std::size_t most);

}  // namespace wedge::app
