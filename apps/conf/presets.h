// Presets: named sets of keys, compiled in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace wedge::app {

struct Preset {
  std::string group;  // model | data | experiment
  std::string name;
  std::string doc;                       // one line
  std::vector<std::string> assignments;  // as on the command line: "model.num_layers=12"
};

// The groups that have presets, in the order in which their presets apply, and which one applies when the
// command line names none.
struct PresetGroup {
  std::string_view name;
  std::string_view default_preset;
};
const std::vector<PresetGroup>& preset_groups();

// All presets, group by group. The group model has one for every mixer of the mixer table.
const std::vector<Preset>& presets();

// Throws wedge::Error that lists the group's presets when there is none of that name.
const Preset& find_preset(std::string_view group, std::string_view name);

}  // namespace wedge::app
