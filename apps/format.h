// Numbers as the user sees them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace wedge::app {

// Two decimals, or an exponent from a million on, where two decimals would only be noise.
std::string format_perplexity(double perplexity);

// "1:02:03" or "02:03".
std::string format_duration(double seconds);

// "1 token", "2 tokens".
std::string counted(std::int64_t n, std::string_view noun);
// `text` as a word of a shell's command line, in quotes where it needs them.
std::string shell_word(const std::string& text);

}  // namespace wedge::app
