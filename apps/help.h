// Parts of help texts, made from the tables of keys and presets.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/config_keys.h"

namespace wedge::app {

// The keys of these groups, and those of these names ("model", "seed", "train.device"), a line each: name,
// default, documentation.
std::string describe_keys(const std::vector<std::string_view>& names);

// What a key means, its type, range or choices, and its default, on one line.
std::string describe_key_in_a_line(const Key& key);

// The same at length for a key ("train.batch_size"; "batch_size" where that is no other's too), with the
// presets that set it; the keys of a group ("train"), or what a preset sets ("model=grassmann"). None where
// the name is none of these.
std::optional<std::string> describe_key_or_group(const std::string& name);

// The presets, a line each, group by group.
std::string describe_presets();

}  // namespace wedge::app
