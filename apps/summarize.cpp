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

std::vector<fs::path> find_files(const fs::path& root, const std::string& name) {
  std::error_code error;
  WEDGE_CHECK(fs::is_directory(root, error), "{} is not a folder", root.string());
  std::vector<fs::path> found;
  fs::recursive_directory_iterator entry(root, error), end;
  std::error_code ignored;  // a link that leads nowhere is named when it is read
  for (; !error && entry != end; entry.increment(error))
    if (entry->path().filename() == name && !entry->is_directory(ignored)) found.push_back(entry->path());
  WEDGE_CHECK(!error, "cannot read {}: {}", root.string(), error.message());
  std::sort(found.begin(), found.end(), [&](const fs::path& a, const fs::path& b) {
    return natural_less(a.lexically_relative(root).generic_string(),
                        b.lexically_relative(root).generic_string());
  });
  return found;
}

std::vector<LabelledResult> find_results(const fs::path& root) {
  std::vector<LabelledResult> found;
  for (const fs::path& file : find_files(root, "results.json"))
    found.push_back({file.parent_path().lexically_relative(root).generic_string(), read_result(file)});
  WEDGE_CHECK(!found.empty(), "no results.json in {} or below", root.string());
  return found;
}

}  // namespace wedge::app
