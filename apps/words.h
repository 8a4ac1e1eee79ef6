// The words NAME=VALUE of a command that has keys of its own.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace wedge::app {

class Words {
 public:
  // Throws wedge::Error naming the command and the nearest of `names` for a word that is none of theirs, and
  // for one that is given twice.
  Words(std::string_view command, const std::vector<std::string>& arguments,
        const std::vector<std::string_view>& names);

  // The text as it stands; nothing where it was not given.
  std::optional<std::string> text(const std::string& name) const;
  // Throws wedge::Error "COMMAND: NAME=VALUE is missing", and for an empty text what was expected.
  std::string required(const std::string& name, std::string_view value) const;
  // The value as a number; nothing where it was not given or is null. Throws wedge::Error, naming what was
  // expected and what came, for what is none or out of [low, high].
  std::optional<std::int64_t> integer(const std::string& name, std::int64_t low,
                                      std::int64_t high = std::numeric_limits<std::int64_t>::max()) const;
  // The same of all that 64 bits hold without a sign.
  std::optional<std::uint64_t> natural(const std::string& name) const;
  std::optional<double> number(const std::string& name, double low, double high) const;

 private:
  std::string command_;
  std::map<std::string, std::string> values_;
};

}  // namespace wedge::app
