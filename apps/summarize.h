// Results of many runs, found in a tree of folders.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "apps/table.h"

namespace wedge::app {

// Every file of that name in `root` and below, in natural order (2_x before 10_x). Links to folders are not
// followed. Throws wedge::Error when `root` is no folder or cannot be read.
std::vector<std::filesystem::path> find_files(const std::filesystem::path& root, const std::string& name);

// Every file named results.json in `root` and below, labelled by its folder relative to `root`, in natural
// order (2_x before 10_x). Links to folders are not followed. Throws wedge::Error when `root` is no folder, a
// file cannot be understood, or there is none.
std::vector<LabelledResult> find_results(const std::filesystem::path& root);

}  // namespace wedge::app
