// The words KEY=VALUE of a program's command line.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace wedge::bench {

class Arguments {
 public:
  struct Key {
    const char *name, *value, *meaning;  // `value`: the default
  };

  // Of two words of one key the last counts. Throws wedge::Error for a word that none of `keys` begins.
  Arguments(std::span<const Key> keys, int argc, char** argv);

  // Whether help, --help or -h is among the words; then nothing else is looked at.
  bool asks_for_help() const { return asks_for_help_; }
  // A line for each key: name, default, meaning.
  static std::string help(std::span<const Key> keys);

  // These throw wedge::Error naming the key, what was expected and what came.
  std::int64_t integer(const std::string& key, std::int64_t low, std::int64_t high) const;
  double rate(const std::string& key) const;  // in [0, 1)
  // The words between commas, of which each is one of `choices`.
  std::vector<std::string> list(const std::string& key, const std::vector<std::string>& choices) const;
  // The one word.
  std::string choice(const std::string& key, const std::vector<std::string>& choices) const;

 private:
  bool asks_for_help_ = false;
  std::map<std::string, std::string> values_;
};

}  // namespace wedge::bench
