#include "apps/words.h"

#include <algorithm>
#include <cmath>

#include "apps/config.h"
#include "apps/config_keys.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

std::string limits(double low, double high) {
  if (high >= 9e18) return fmt::format("at least {}", low);
  return fmt::format("from {} to {}", low, high);
}

}  // namespace

Words::Words(std::string_view command, const std::vector<std::string>& arguments,
             const std::vector<std::string_view>& names)
    : command_(command) {
  for (const std::string& word : arguments) {
    const std::size_t equals = std::min(word.find('='), word.size());
    const std::string name = word.substr(0, equals);
    WEDGE_CHECK(equals < word.size() && std::ranges::find(names, name) != names.end(),
                "{}: unknown argument '{}'; {}", command, word,
                nearest_is(name, names, fmt::format("see wedge {} --help", command)));
    WEDGE_CHECK(values_.emplace(name, word.substr(equals + 1)).second, "{}: {} is given twice", command,
                name);
  }
}

std::optional<std::string> Words::text(const std::string& name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::nullopt : std::optional(found->second);
}

std::string Words::required(const std::string& name, std::string_view value) const {
  const auto found = values_.find(name);
  WEDGE_CHECK(found != values_.end(), "{}: {}={} is missing", command_, name, value);
  WEDGE_CHECK(!found->second.empty(), "{}: {}: expected {}, got nothing", command_, name, value);
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
