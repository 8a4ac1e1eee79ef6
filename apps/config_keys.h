// The table of configuration keys: help text, parsing, JSON and error messages all come from it.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "apps/config.h"

namespace wedge::app {

// Where a key's value lives. The pointer's type is the key's type; an optional can be switched off by null.
using Field =
    std::variant<bool*, std::int64_t*, std::uint64_t*, double*, std::string*, std::vector<std::int64_t>*,
                 std::optional<std::int64_t>*, std::optional<double>*, std::optional<std::string>*>;

// Bounds of a number, or of each number of a list.
struct Range {
  double low = -std::numeric_limits<double>::max();
  double high = std::numeric_limits<double>::max();
  bool low_included = true, high_included = true;
};

// What a key decides. But for `result`, runs that end with the same bits may differ in it.
enum class KeyKind {
  result,     // what a run finds out: kept in checkpoints, and fixed when a run goes on
  execution,  // how it gets there: a run may go on with another value
  record,     // under which name and where it is kept: fixed when a run goes on
  place,  // where its corpus lies: kept in checkpoints; a run may go on with another, whose checksum decides
};

struct Key {
  std::string_view name;          // "train.batch_size"
  Field (*field)(Config&);        // type and, in a default Config, the default
  std::string_view doc;           // one line
  Range range = {};               // numbers
  std::string_view choices = {};  // strings: "auto|cpu|cuda"; empty: any
  KeyKind kind = KeyKind::result;

  // Whether checkpoints keep it, and runs that differ in it are told apart.
  bool in_checkpoint() const { return kind == KeyKind::result || kind == KeyKind::place; }
  // "train"; empty for a key without a group, such as the seed.
  std::string_view group() const { return name == leaf() ? "" : name.substr(0, name.find('.')); }
  // Whether its value is a path.
  bool is_path() const {
    return kind == KeyKind::place || name == "train.init_from" || name == "experiment.run_dir";
  }
  std::string_view leaf() const { return name.substr(name.find('.') + 1); }  // "batch_size"
};

// All keys, in the order of the help text.
std::span<const Key> config_keys();

// The names of those of one kind.
std::vector<std::string_view> names_of(KeyKind kind);

// The key of that name. Throws wedge::Error that names the nearest valid key (or group) when there is none.
const Key& find_key(std::string_view name);

// Sets one key. Throws wedge::Error naming the key when the value is of the wrong type, not finite, out of
// range or not among the choices.
void set_key(Config& config, const Key& key, const Json& value);

Json get_key(const Config& config, const Key& key);
// The same of a configuration as JSON, nested by group; null where it has none.
Json get_key(const Json& config, const Key& key);
bool has_key(const Json& config, const Key& key);
// Sets it there, where the configuration has the key's group.
void set_key(Json& config, const Key& key, const Json& value);

// The keys, but for the mixer's name, whose values are not the same in all of these configurations, in the
// order of the table; what may differ between two equal runs is left out.
std::vector<const Key*> differing_keys(const std::vector<Json>& configs);

// The words of Key::choices.
std::vector<std::string_view> split_choices(std::string_view choices);

// "at least 1", "from 0 to less than 1"; empty where any number will do.
std::string describe_range(const Key& key);

// "an integer", "a number or null", ...
std::string type_name(const Key& key);

// "the nearest is CANDIDATE", or `otherwise` where none is near: by edit distance of the whole or of the last
// part alone (batch_size finds train.batch_size), by how a word in the last part begins (epochs finds
// train.num_epochs), and by what is said for short (lr).
std::string nearest_is(std::string_view word, const std::vector<std::string_view>& candidates,
                       std::string_view otherwise);

}  // namespace wedge::app
