// From the words of a command line to configurations.
#pragma once

#include <string>
#include <vector>

#include "apps/config.h"

namespace wedge::app {

// The value that a word stands for: a JSON scalar or list; anything else is a string (a bare word).
Json parse_value(const std::string& text);

// The parts between commas that are outside brackets and double quotes.
std::vector<std::string> split_commas(const std::string& text);

// Configurations of `wedge train`. `arguments` are group=preset and group.key=value. The presets of the three
// groups apply first, then the keys from left to right; of two words for one group or key the last one wins.
// With `multirun` a word may give several values, with commas between them, and the result is the product,
// the last word's values varying fastest. Every result is validated. Throws wedge::Error on anything
// unknown or wrong, and on a comma list without `multirun`.
std::vector<Config> compose(const std::vector<std::string>& arguments, bool multirun);

// The same over a configuration that is already there: only presets that are named apply. Not validated.
Config compose_over(Config base, const std::vector<std::string>& arguments);

}  // namespace wedge::app
