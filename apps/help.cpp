#include "apps/help.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/conf/presets.h"
#include "apps/config_keys.h"

namespace wedge::app {

std::string describe_keys(const std::vector<std::string_view>& groups) {
  std::string text;
  std::string_view previous;
  for (const Key& key : config_keys()) {
    const std::string_view group = key.name.substr(0, key.name.find('.'));
    if (std::find(groups.begin(), groups.end(), group) == groups.end()) continue;
    if (!previous.empty() && group != previous) text += '\n';
    previous = group;
    const Json value = get_key(Config{}, key);
    std::string doc(key.doc);
    if (!key.choices.empty()) doc += fmt::format(" ({})", fmt::join(split_choices(key.choices), ", "));
    text += fmt::format("  {:<30} {:<16} {}\n", key.name,
                        value.is_string() ? value.get<std::string>() : value.dump(), doc);
  }
  return text;
}

std::string describe_presets() {
  std::string text;
  for (const Preset& preset : presets()) {
    const auto& groups = preset_groups();
    const bool is_default = std::any_of(groups.begin(), groups.end(), [&](const PresetGroup& group) {
      return group.name == preset.group && group.default_preset == preset.name;
    });
    text += fmt::format("  {:<30} {}{}\n", preset.group + "=" + preset.name, preset.doc,
                        is_default ? " (default)" : "");
  }
  return text;
}

}  // namespace wedge::app
