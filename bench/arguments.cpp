#include "bench/arguments.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "tensor/check.h"

namespace wedge::bench {
namespace {

// Whether `text` is a number and nothing else.
template <class T>
bool read(const std::string& text, T& number) {
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end;
}

}  // namespace

Arguments::Arguments(std::span<const Key> keys, int argc, char** argv) {
  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  asks_for_help_ = std::ranges::any_of(
      words, [](const std::string& word) { return word == "help" || word == "--help" || word == "-h"; });
  if (asks_for_help_) return;
  std::vector<std::string_view> names;
  for (const Key& key : keys) {
    names.emplace_back(key.name);
    values_[key.name] = key.value;
  }
  for (const std::string& word : words) {
    const auto equals = word.find('=');
    WEDGE_CHECK(equals != std::string::npos && values_.contains(word.substr(0, equals)),
                "unknown argument '{}': expected KEY=VALUE, KEY one of {}; --help explains them", word,
                fmt::join(names, ", "));
    values_[word.substr(0, equals)] = word.substr(equals + 1);
  }
}

std::string Arguments::help(std::span<const Key> keys) {
  std::string text;
  for (const Key& key : keys)
    text += fmt::format("  {:<27} {}\n", fmt::format("{}={}", key.name, key.value), key.meaning);
  return text;
}

std::int64_t Arguments::integer(const std::string& key, std::int64_t low, std::int64_t high) const {
  const std::string& text = values_.at(key);
  std::int64_t number = 0;
  WEDGE_CHECK(read(text, number) && number >= low && number <= high,
              "{}: expected an integer from {} to {}, got '{}'", key, low, high, text);
  return number;
}

double Arguments::rate(const std::string& key) const {
  const std::string& text = values_.at(key);
  double number = 0;
  WEDGE_CHECK(read(text, number) && number >= 0 && number < 1,
              "{}: expected a number from 0 to less than 1, got '{}'", key, text);
  return number;
}

std::vector<std::string> Arguments::list(const std::string& key,
                                         const std::vector<std::string>& choices) const {
  std::vector<std::string> words;
  for (std::string rest = values_.at(key) + ","; !rest.empty(); rest.erase(0, rest.find(',') + 1)) {
    words.push_back(rest.substr(0, rest.find(',')));
    WEDGE_CHECK(std::ranges::find(choices, words.back()) != choices.end(), "{}: expected {}, got '{}'", key,
                fmt::join(choices, " or "), words.back());
  }
  return words;
}

std::string Arguments::choice(const std::string& key, const std::vector<std::string>& choices) const {
  const std::vector<std::string> words = list(key, choices);
  WEDGE_CHECK(words.size() == 1, "{}: expected one of {}, got '{}'", key, fmt::join(choices, " and "),
              values_.at(key));
  return words.front();
}

}  // namespace wedge::bench
