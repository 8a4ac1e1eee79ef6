#include "apps/summarize.h"

#include <algorithm>
#include <cctype>
#include <deque>
#include <set>

#include "apps/divergence.h"
#include "apps/files.h"
#include "apps/run_dir.h"
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

// Collects the files of one name in a tree. Links are followed after all else, so that a run which is there
// twice is called by its own folder; a folder is seen once, and a link to one above the root is not followed:
// so no walk is without end. What cannot be read is an error in the tree, and passed over behind a link, which
// may lead anywhere.
class Search {
 public:
  Search(const fs::path& root, const std::string& name) : name_(name) {
    std::error_code ignored;  // of a folder that is not there or not ours, which walk() names
    root_ = fs::canonical(root, ignored);
    walk(root, false);
    while (!links_.empty()) {
      const fs::path link = links_.front();
      links_.pop_front();
      if (!is_above_root(fs::canonical(link, ignored))) walk(link, true);
    }
  }

  std::vector<fs::path> found;

 private:
  bool is_above_root(const fs::path& folder) const {
    return std::mismatch(folder.begin(), folder.end(), root_.begin(), root_.end()).first == folder.end();
  }

  void walk(const fs::path& folder, bool behind_link) {
    std::error_code error;
    if (!seen_.insert(fs::canonical(folder, error)).second && !error) return;
    std::vector<fs::path> folders, links;
    fs::directory_iterator entry(folder, error), end;
    for (; !error && entry != end; entry.increment(error)) {
      std::error_code ignored;  // a link that leads nowhere is named when it is read
      if (entry->is_directory(ignored))
        (entry->is_symlink(ignored) ? links : folders).push_back(entry->path());
      else if (entry->path().filename() == name_)
        found.push_back(entry->path());
    }
    WEDGE_CHECK(!error || behind_link, "cannot read {}: {}", folder.string(), error.message());
    // Of two links to one folder the first is followed, whatever the order on the disk.
    std::sort(links.begin(), links.end());
    std::sort(folders.begin(), folders.end());
    links_.insert(links_.end(), links.begin(), links.end());
    for (const fs::path& below : folders) walk(below, behind_link);
  }

  std::string name_;
  fs::path root_;
  std::set<fs::path> seen_;
  std::deque<fs::path> links_;
};

}  // namespace

std::vector<fs::path> find_files(const fs::path& root, const std::string& name) {
  std::error_code error;
  WEDGE_CHECK(fs::is_directory(root, error), "{} is not a folder", root.string());
  std::vector<fs::path> found = Search(root, name).found;
  const auto place = [&](const fs::path& file) {
    return file.parent_path().lexically_relative(root).generic_string();
  };
  std::sort(found.begin(), found.end(),
            [&](const fs::path& a, const fs::path& b) { return natural_less(place(a), place(b)); });
  return found;
}

std::string label_of(const fs::path& folder, const fs::path& root, bool one_of_several) {
  const auto bare = [](const fs::path& path) { return path.has_filename() ? path : path.parent_path(); };
  if (one_of_several) return bare(folder.lexically_normal()).generic_string();
  const fs::path below = folder.lexically_relative(root);
  return below == "." ? bare(fs::absolute(root).lexically_normal()).filename().string()
                      : below.generic_string();
}

FoundRuns find_runs(const fs::path& root, const std::string& name, bool one_of_several) {
  FoundRuns found;
  for (const fs::path& file : find_files(root, name)) {
    const fs::path folder = file.parent_path();
    const bool is_root = folder.lexically_relative(root) == ".";
    (!is_root && is_copied_member(folder) ? found.copies : found.runs)
        .push_back({folder, label_of(folder, root, one_of_several)});
  }
  return found;
}

std::vector<std::string> describe_copies(const std::vector<FoundRun>& copies,
                                         const std::vector<fs::path>& roots) {
  std::vector<std::string> lines;
  for (const FoundRun& copy : copies) {
    std::error_code error;
    if (std::ranges::none_of(roots,
                             [&](const fs::path& root) { return fs::equivalent(copy.folder, root, error); }))
      lines.push_back(fmt::format(
          "{} is left out: it is no run of the multirun around it but looks like a copy of one", copy.label));
  }
  return lines;
}

std::vector<LabelledResult> find_results(const fs::path& root, bool one_of_several,
                                         std::vector<FoundRun>* copies) {
  const FoundRuns runs = find_runs(root, "results.json", one_of_several);
  std::vector<LabelledResult> found;
  for (const FoundRun& run : runs.runs)
    found.push_back({run.label, read_result(run.folder / "results.json")});
  WEDGE_CHECK(!found.empty(), "no results.json in {} or below", root.string());
  if (copies != nullptr) copies->insert(copies->end(), runs.copies.begin(), runs.copies.end());
  return found;
}

std::vector<std::string> find_diverged(const fs::path& root, bool one_of_several) {
  std::vector<std::string> lines;
  for (const FoundRun& run : find_runs(root, "metrics.jsonl", one_of_several).runs)
    if (const auto divergence =
            is_there(run.folder / "results.json") ? std::nullopt : divergence_of({run.folder}))
      lines.push_back(fmt::format("{} {}", run.label, describe(*divergence)));
  return lines;
}

}  // namespace wedge::app
