// Results of many runs, found in a tree of folders.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "apps/table.h"

namespace wedge::app {

// Every file of that name in `root` and below, in natural order (2_x before 10_x). Links to folders are
// followed, each folder is seen once. Throws wedge::Error when `root` is no folder, or naming the folder that
// cannot be read.
std::vector<std::filesystem::path> find_files(const std::filesystem::path& root, const std::string& name);

// What a run in `folder`, found from `root`, is called: its path from there, or of the root itself its name;
// with the root's path before it where there are several.
std::string label_of(const std::filesystem::path& folder, const std::filesystem::path& root,
                     bool one_of_several);

// The runs in `root` and below whose folders hold a file of that name, labelled as label_of() says. Copies of
// a multirun's runs beside them would count twice: they are kept apart, but for a root that is one.
struct FoundRun {
  std::filesystem::path folder;
  std::string label;
};
struct FoundRuns {
  std::vector<FoundRun> runs, copies;
};
FoundRuns find_runs(const std::filesystem::path& root, const std::string& name, bool one_of_several);

// Of each copy that is no root itself, a line that says that it is left out.
std::vector<std::string> describe_copies(const std::vector<FoundRun>& copies,
                                         const std::vector<std::filesystem::path>& roots);

// Every results.json that find_runs() finds; what copies it finds are added to `copies`. Throws wedge::Error
// as find_files() does, and when a file cannot be understood, or there is none.
std::vector<LabelledResult> find_results(const std::filesystem::path& root, bool one_of_several = false,
                                         std::vector<FoundRun>* copies = nullptr);

// Of each run in `root` and below that diverged, a line that names it as label_of() does and says so.
std::vector<std::string> find_diverged(const std::filesystem::path& root, bool one_of_several = false);

}  // namespace wedge::app
