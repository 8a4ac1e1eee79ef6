#include "apps/words.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "apps/conf/presets.h"
#include "apps/config.h"
#include "apps/config_keys.h"
#include "apps/files.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

std::string limits(double low, double high) {
  if (high >= 9e18) return fmt::format("at least {}", low);
  return fmt::format("from {} to {}", low, high);
}

bool is_key(std::string_view name) {
  return std::ranges::any_of(config_keys(), [&](const Key& key) { return key.name == name; }) ||
         std::ranges::any_of(preset_groups(), [&](const PresetGroup& group) { return group.name == name; });
}

// Whether a command's own word `bare` takes a path.
bool takes_path(std::string_view bare) {
  constexpr std::string_view kPaths[] = {"checkpoint", "resume", "out", "--out", "--root", "vocab"};
  return std::ranges::find(kPaths, bare) != std::end(kPaths);
}

// `name` is that of `word`, with the = where one follows.
[[noreturn]] void refuse(const Command& command, const std::string& word, const std::string& name) {
  const std::string_view bare = std::string_view(name).substr(0, name.find('='));
  const bool has_value = bare.size() < name.size();
  const std::vector<std::string_view> own = own_words_of(command);
  WEDGE_CHECK(!has_value || std::ranges::find(own, bare) == own.end(), "{}: {} takes no value", command.name,
              bare);
  WEDGE_CHECK(command.keys.empty() || !has_value || !is_key(bare),
              "{}: {} comes with the checkpoint and cannot be changed; {} can", command.name, bare,
              fmt::join(keys_of(command), ", "));
  std::vector<std::string_view> names = own;
  const std::vector<std::string> keys = key_words_of(command);
  names.insert(names.end(), keys.begin(), keys.end());
  const char* const kind = word.starts_with("-") ? "option" : has_value ? "key" : "argument";
  throw Error(fmt::format("{}: unknown {} '{}'; {}", command.name, kind, bare,
                          nearest_is(name, names, fmt::format("see wedge {} --help", command.name))));
}

}  // namespace

Words::Words(const Command& command, const std::vector<std::string>& arguments) : command_(command.name) {
  const std::vector<std::string_view> own = own_words_of(command);
  const std::vector<std::string> keys = key_words_of(command);
  const auto is_own = [&](const std::string& name) { return std::ranges::find(own, name) != own.end(); };
  for (auto argument = arguments.begin(); argument != arguments.end(); ++argument) {
    const std::string& word = *argument;
    const std::size_t equals = std::min(word.find('='), word.size());
    const std::string bare = word.substr(0, equals), name = word.substr(0, equals + 1);
    if (is_own(name) || (bare.starts_with("--") && is_own(bare + "="))) {
      std::string value = word.substr(name.size());
      if (!is_own(name) && argument + 1 != arguments.end()) value = *++argument;
      WEDGE_CHECK(!value.empty() || is_own(bare), "{}: {} needs a value", command.name, bare);
      if (takes_path(bare)) check_expanded(bare, value);
      WEDGE_CHECK(values_.emplace(bare, value).second, "{}: {} is given twice", command.name, bare);
    } else if (std::ranges::find(keys, name) != keys.end()) {
      keys_.push_back(word);
    } else if (command.takes_paths && !word.starts_with("-")) {
      check_expanded(command.name, word);
      paths_.push_back(word);
    } else {
      refuse(command, word, name);
    }
  }
}

std::optional<std::string> Words::text(const std::string& name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::nullopt : std::optional(found->second);
}

std::string Words::required(const std::string& name, std::string_view value) const {
  const auto found = values_.find(name);
  WEDGE_CHECK(found != values_.end(), "{}: {}={} is missing", command_, name, value);
  return found->second;
}

std::optional<std::int64_t> Words::integer(const std::string& name, std::int64_t low,
                                           std::int64_t high) const {
  const auto given = text(name);
  if (!given || *given == "null") return {};
  const Json value = parse_json(*given);
  const bool fits =
      value.is_number_integer() && !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX);
  WEDGE_CHECK(fits && value.get<std::int64_t>() >= low && value.get<std::int64_t>() <= high,
              "{}: {}: expected an integer, {}, got {}", command_, name,
              limits(static_cast<double>(low), static_cast<double>(high)), *given);
  return value.get<std::int64_t>();
}

std::optional<std::uint64_t> Words::natural(const std::string& name) const {
  const auto given = text(name);
  if (!given || *given == "null") return {};
  const Json value = parse_json(*given);
  WEDGE_CHECK(value.is_number_unsigned(), "{}: {}: expected an integer, from 0 to {}, got {}", command_, name,
              std::numeric_limits<std::uint64_t>::max(), *given);
  return value.get<std::uint64_t>();
}

std::optional<double> Words::number(const std::string& name, double low, double high) const {
  const auto given = text(name);
  if (!given || *given == "null") return {};
  const Json value = parse_json(*given);
  WEDGE_CHECK(value.is_number() && value.get<double>() >= low && value.get<double>() <= high,
              "{}: {}: expected a number {}, got {}", command_, name, limits(low, high), *given);
  return value.get<double>();
}

}  // namespace wedge::app
