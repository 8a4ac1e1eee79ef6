#include "apps/compose.h"

#include <algorithm>

#include "apps/conf/presets.h"
#include "apps/config_keys.h"
#include "apps/files.h"
#include "data/unicode.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

constexpr std::size_t kMaxRuns = 10000;

// One word of the command line: a group or key, and the values it is to take.
struct Assignment {
  std::string name;
  std::vector<std::string> values;
};

bool is_group(std::string_view name) {
  const auto& groups = preset_groups();
  return std::any_of(groups.begin(), groups.end(), [&](const PresetGroup& g) { return g.name == name; });
}

Assignment parse_assignment(const std::string& word, bool multirun) {
  WEDGE_CHECK(!data::find_invalid_utf8(word), "argument '{}' is not valid UTF-8", word);
  const std::size_t equals = word.find('=');
  WEDGE_CHECK(equals != std::string::npos && equals > 0,
              "argument '{}': expected group=preset or group.key=value", word);
  Assignment assignment{word.substr(0, equals), split_commas(word.substr(equals + 1))};
  if (!is_group(assignment.name)) find_key(assignment.name);
  WEDGE_CHECK(multirun || assignment.values.size() == 1,
              "{}: several values need -m (multirun); as one value a list is written [1,2], a text with "
              "commas '\"a,b\"'",
              word);
  for (const std::string& value : assignment.values)
    WEDGE_CHECK(!value.empty(), "{}: a value is missing", word);
  return assignment;
}

// Parsed words, of each name only the last.
std::vector<Assignment> parse_assignments(const std::vector<std::string>& words, bool multirun) {
  std::vector<Assignment> result;
  for (const std::string& word : words) {
    Assignment assignment = parse_assignment(word, multirun);
    std::erase_if(result, [&](const Assignment& earlier) { return earlier.name == assignment.name; });
    result.push_back(std::move(assignment));
  }
  return result;
}

void set_from_text(Config& config, const std::string& name, const std::string& value) {
  const Key& key = find_key(name);
  if (key.is_path()) check_expanded(name, value);
  set_key(config, key, parse_value(value));
}

void apply_preset(Config& config, std::string_view group, std::string_view name) {
  for (const std::string& assignment : find_preset(group, name).assignments) {
    const std::size_t equals = assignment.find('=');
    set_from_text(config, assignment.substr(0, equals), assignment.substr(equals + 1));
  }
}

// Applies one choice of values, `chosen[i]` for `assignments[i]`, to `config`.
void apply(Config& config, const std::vector<Assignment>& assignments, const std::vector<std::size_t>& chosen,
           bool default_presets) {
  for (const PresetGroup& group : preset_groups()) {
    std::string_view preset = default_presets ? group.default_preset : std::string_view{};
    for (std::size_t i = 0; i < assignments.size(); ++i)
      if (assignments[i].name == group.name) preset = assignments[i].values[chosen[i]];
    if (!preset.empty()) apply_preset(config, group.name, preset);
  }
  for (std::size_t i = 0; i < assignments.size(); ++i)
    if (!is_group(assignments[i].name))
      set_from_text(config, assignments[i].name, assignments[i].values[chosen[i]]);
}

}  // namespace

Json parse_value(const std::string& text) {
  Json value = parse_json(text);
  // A number that only a zero is near enough to was not meant as one.
  const bool vanished = value.is_number_float() && value == 0.0 &&
                        text.substr(0, text.find_first_of("eE")).find_first_of("123456789") != text.npos;
  if (value.is_discarded() || value.is_object() || vanished) return Json(text);
  return value;
}

std::vector<std::string> split_commas(const std::string& text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\' && i + 1 < text.size()) {
      parts.back() += c;
      parts.back() += text[++i];
      continue;
    }
    if (c == '"') quoted = !quoted;
    if (!quoted && c == '[') ++depth;
    if (!quoted && c == ']' && depth > 0) --depth;
    if (c == ',' && !quoted && depth == 0)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

std::vector<Config> compose(const std::vector<std::string>& arguments, bool multirun) {
  const std::vector<Assignment> assignments = parse_assignments(arguments, multirun);
  std::size_t runs = 1;
  for (const Assignment& assignment : assignments) {
    runs *= assignment.values.size();
    WEDGE_CHECK(runs <= kMaxRuns, "-m: more than {} runs", kMaxRuns);
  }

  std::vector<Config> configs;
  for (std::size_t run = 0; run < runs; ++run) {
    // The run's number in the mixed radix of the values' counts, last digit fastest.
    std::vector<std::size_t> chosen(assignments.size());
    std::size_t rest = run;
    for (std::size_t i = assignments.size(); i-- > 0;) {
      chosen[i] = rest % assignments[i].values.size();
      rest /= assignments[i].values.size();
    }
    Config config;
    apply(config, assignments, chosen, true);
    validate(config);
    configs.push_back(std::move(config));
  }
  return configs;
}

Config compose_over(Config base, const std::vector<std::string>& arguments) {
  const std::vector<Assignment> assignments = parse_assignments(arguments, false);
  apply(base, assignments, std::vector<std::size_t>(assignments.size(), 0), false);
  return base;
}

}  // namespace wedge::app
