// Parts of help texts, made from the tables of keys and presets.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace wedge::app {

// The keys of these groups ("model", "seed"), a line each: name, default, documentation.
std::string describe_keys(const std::vector<std::string_view>& groups);

// The presets, a line each, group by group.
std::string describe_presets();

}  // namespace wedge::app
