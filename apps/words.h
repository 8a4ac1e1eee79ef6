// The words of a command line after the command's name, sorted by what the table of commands says of it.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/commands.h"

namespace wedge::app {

class Words {
 public:
  // Of a word of the command's own whose name begins with -- the value may also be the next argument. Throws
  // wedge::Error naming the command: for a word that it does not take, with the nearest that it does; and for
  // one of its own that is given twice or lacks its value.
  Words(const Command& command, const std::vector<std::string>& arguments);

  std::string_view command() const { return command_; }
  // group=preset and group.key=value, as they came: compose() reads them, and of two of one name the last.
  const std::vector<std::string>& keys() const { return keys_; }
  const std::vector<std::string>& paths() const { return paths_; }

  // Of the command's own words: whether it was given.
  bool has(const std::string& name) const { return values_.contains(name); }
  // The text as it stands; nothing where it was not given.
  std::optional<std::string> text(const std::string& name) const;
  // Throws wedge::Error "COMMAND: NAME=VALUE is missing".
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
  std::vector<std::string> keys_, paths_;
};

}  // namespace wedge::app
