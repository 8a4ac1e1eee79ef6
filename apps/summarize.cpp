#include "apps/summarize.h"

#include <algorithm>
#include <cctype>

#include "tensor/check.h"

namespace wedge::app {

namespace fs = std::filesystem;

namespace {

bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

// Order in which runs of digits compare as numbers.
bool natural_less(const std::string& a, const std::string& b) {
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (is_digit(a[i]) && is_digit(b[j])) {
      const auto number = [](const std::string& s, std::size_t& k) {
        while (k < s.size() && s[k] == '0') ++k;
        const std::size_t begin = k;
        while (k < s.size() && is_digit(s[k])) ++k;
        return s.substr(begin, k - begin);
      };
      const std::string x = number(a, i), y = number(b, j);
      if (x != y) return x.size() != y.size() ? x.size() < y.size() : x < y;
    } else {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i, ++j;
    }
  }
  return a.size() - i < b.size() - j;
}

}  // namespace

std::vector<LabelledResult> find_results(const fs::path& root) {
  std::error_code error;
  WEDGE_CHECK(fs::is_directory(root, error), "summarize: {} is not a folder", root.string());
  std::vector<LabelledResult> found;
  fs::recursive_directory_iterator entry(root, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    if (entry->path().filename() != "results.json" || entry->is_directory()) continue;
    found.push_back(
        {entry->path().parent_path().lexically_relative(root).generic_string(), read_result(entry->path())});
  }
  WEDGE_CHECK(!error, "summarize: cannot read {}: {}", root.string(), error.message());
  WEDGE_CHECK(!found.empty(), "summarize: no results.json in {} or below", root.string());
  std::sort(found.begin(), found.end(),
            [](const LabelledResult& a, const LabelledResult& b) { return natural_less(a.label, b.label); });
  return found;
}

}  // namespace wedge::app
