#include "apps/help.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "apps/conf/presets.h"
#include "apps/config_keys.h"

namespace wedge::app {

std::string describe_keys(const std::vector<std::string_view>& names) {
  std::string text;
  const Key* previous = nullptr;
  for (const Key& key : config_keys()) {
    const auto is_named = [&](std::string_view name) { return name == key.group() || name == key.name; };
    if (std::ranges::none_of(names, is_named)) continue;
    if (previous != nullptr && previous->group() != key.group()) text += '\n';
    previous = &key;
    const Json value = get_key(Config{}, key);
    std::string doc(key.doc);
    if (!key.choices.empty()) doc += fmt::format(" ({})", fmt::join(split_choices(key.choices), ", "));
    text += fmt::format("  {:<30} {:<16} {}\n", key.name,
                        value.is_string() ? value.get<std::string>() : value.dump(), doc);
  }
  return text;
}

std::string describe_key_in_a_line(const Key& key) {
  std::string text = fmt::format("{}; {}", key.doc, type_name(key));
  if (const std::string range = describe_range(key); !range.empty()) text += ", " + range;
  if (!key.choices.empty()) text += fmt::format(": {}", fmt::join(split_choices(key.choices), ", "));
  const Json value = get_key(Config{}, key);
  return text + fmt::format(" (default: {})", value.is_string() ? value.get<std::string>() : value.dump());
}

std::optional<std::string> describe_key_or_group(const std::string& name) {
  for (const Preset& preset : presets())
    if (name == preset.group + "=" + preset.name)
      return fmt::format("{}: {}\n  sets {}\n", name, preset.doc,
                         preset.assignments.empty() ? "nothing: the defaults"
                                                    : fmt::format("{}", fmt::join(preset.assignments, " ")));

  std::vector<const Key*> found;
  for (const Key& key : config_keys()) {
    if (key.name == name) found = {&key};
    if (key.name == name) break;
    if (key.leaf() == name) found.push_back(&key);
  }
  if (found.size() == 1) {
    const Key& key = *found.front();
    std::string text = fmt::format("{}: {}\n", key.name, describe_key_in_a_line(key));
    for (const Preset& preset : presets())
      for (const std::string& assignment : preset.assignments)
        if (assignment.starts_with(std::string(key.name) + "="))
          text += fmt::format("  {}={} sets {}\n", preset.group, preset.name,
                              assignment.substr(key.name.size() + 1));
    if (!key.in_checkpoint()) text += "  not kept in checkpoints: it does not change what a run finds out\n";
    return text;
  }
  if (const std::string keys = describe_keys({name}); !keys.empty()) return keys;
  return std::nullopt;
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
