#include "apps/run_dir.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "apps/files.h"
#include "tensor/atomic_file.h"
#include "tensor/check.h"

namespace wedge::app {

namespace fs = std::filesystem;

namespace {

const char* const kMultirun = "multirun.json";

std::string member_name(std::size_t index, const Config& config) {
  return fmt::format("{}_{}", index, config.model.tensor_lifting_strategy);
}

// Whether a process that was killed before it wrote its configuration left `entry`: its log, still empty.
bool is_empty_log(const fs::directory_entry& entry) {
  std::error_code error;
  return entry.path().filename() == "metrics.jsonl" && fs::is_regular_file(entry.symlink_status(error)) &&
         entry.file_size(error) == 0;
}

// Throws unless `folder` is free to hold a run: absent, or a folder without a checkpoint and without a name
// that a run or a multirun would write, whatever has it: a file, a folder, a link.
void check_free(const fs::path& folder) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (status.type() == fs::file_type::not_found) {
    // The nearest ancestor that exists must be a folder, or its children cannot be made.
    fs::path ancestor = fs::absolute(folder).parent_path();
    while (!fs::exists(ancestor, error) && ancestor.has_relative_path()) ancestor = ancestor.parent_path();
    WEDGE_CHECK(fs::is_directory(ancestor, error), "experiment.run_dir: {} is not a folder",
                ancestor.string());
    return;
  }
  WEDGE_CHECK(fs::is_directory(status), "experiment.run_dir: {} is not a folder", folder.string());
  fs::directory_iterator entries(folder, error);
  WEDGE_CHECK(!error, "experiment.run_dir: cannot read {}: {}", folder.string(), error.message());
  for (const fs::directory_entry& entry : entries) {
    const fs::path name = entry.path().filename();
    WEDGE_CHECK(name.extension() != ".safetensors", "experiment.run_dir: {} already holds a checkpoint, {}",
                folder.string(), name.string());
    const bool is_ours = name == "config.json" || name == "metrics.jsonl" || name == "results.json" ||
                         name == "comparison.md" || name == kMultirun;
    WEDGE_CHECK(
        !is_ours || is_empty_log(entry),
        "experiment.run_dir: {} already holds a run or what one would write over, {}; to go on with a "
        "run: wedge train resume=...; for a new one name a folder without it",
        folder.string(), name.string());
  }
}

// Whether `name` is what a multirun calls a run: "0_attention".
bool is_member_name(const std::string& name) {
  const std::size_t digits = name.find_first_not_of("0123456789");
  return digits != 0 && digits != std::string::npos && name[digits] == '_';
}

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  WEDGE_CHECK(!error, "cannot make the folder {}: {}", folder.string(), error.message());
}

// Makes `folder`, or `folder`_2, _3, ... where that is taken; the one that was made by this call is ours
// alone.
fs::path make_new_folder(const fs::path& folder) {
  make_folders(folder.parent_path());
  for (int attempt = 1;; ++attempt) {
    const fs::path candidate =
        attempt == 1 ? folder : fs::path(fmt::format("{}_{}", folder.string(), attempt));
    std::error_code error;
    const bool made = fs::create_directory(candidate, error);
    if (made) return candidate;
    const bool taken = !error || error == std::errc::file_exists;
    WEDGE_CHECK(taken && attempt < 10000, "cannot make the folder {}: {}", candidate.string(),
                error.message());
  }
}

// The number in "state_NUMBER.safetensors".
std::optional<std::int64_t> step_of(const fs::path& file) {
  const std::string name = file.filename().string();
  const std::string_view before = "state_", after = ".safetensors";
  if (!name.starts_with(before) || !name.ends_with(after) || name.size() <= before.size() + after.size())
    return {};
  const char* const begin = name.data() + before.size();
  const char* const end = name.data() + name.size() - after.size();
  std::int64_t step = 0;
  const auto [stop, error] = std::from_chars(begin, end, step);
  if (error != std::errc() || stop != end || step < 0) return {};
  return step;
}

}  // namespace

fs::path RunFolder::state(std::int64_t step) const {
  return path / fmt::format("state_{}.safetensors", step);
}

bool RunFolder::is_state(const fs::path& file) {
  return step_of(file).has_value();
}

std::vector<fs::path> RunFolder::states() const {
  std::vector<fs::path> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(path, error))
    if (is_state(entry.path())) found.push_back(entry.path());
  WEDGE_CHECK(!error, "cannot read {}: {}", path.string(), error.message());
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return step_of(a) > step_of(b); });
  return found;
}

void RunFolder::remove_leftovers() const {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(path, ignored))
    if (AtomicFile::is_temporary(entry.path()) && fs::is_regular_file(entry.symlink_status(ignored)))
      fs::remove(entry.path(), ignored);
}

std::vector<RunFolder> find_members(const fs::path& above) {
  std::vector<std::pair<std::int64_t, RunFolder>> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(above, error)) {
    const RunFolder member{entry.path()};
    const std::string name = member.path.filename().string();
    std::int64_t index = 0;
    if (is_member_name(name) && fs::exists(member.config(), error) &&
        std::from_chars(name.data(), name.data() + name.size(), index).ec == std::errc())
      found.emplace_back(index, member);
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<RunFolder> members;
  for (auto& [index, member] : found) members.push_back(std::move(member));
  // A multirun of before that file was written has none.
  if (!fs::exists(above / kMultirun, error)) return members;
  const Json json = parse_json(read_file(above / kMultirun));
  const bool whole = json.is_object() && json.contains("runs") && json["runs"] == members.size();
  WEDGE_CHECK(
      whole,
      "{}: expected as many runs as {} says, found {}: if it was ended while their configurations were "
      "written, none was trained: remove it and start again; to go on with these alone, remove {}",
      above.string(), kMultirun, members.size(), (above / kMultirun).string());
  return members;
}

void check_run_folders(const std::vector<Config>& configs, bool multirun) {
  const auto& run_dir = configs.front().experiment.run_dir;
  for (const Config& config : configs)
    WEDGE_CHECK(config.experiment.run_dir == run_dir,
                "experiment.run_dir: with -m it is the folder above all runs and takes one value");
  if (!run_dir) return;
  check_free(*run_dir);
  // What resume finds there must be one run, or the runs of one multirun, whatever their models.
  std::error_code absent;
  for (const fs::directory_entry& entry : fs::directory_iterator(*run_dir, absent))
    if (is_member_name(entry.path().filename().string()) && (multirun || entry.is_directory(absent)))
      check_free(entry.path());
}

RunFolder make_single_folder(const Config& config, std::time_t now) {
  if (config.experiment.run_dir) {
    make_folders(*config.experiment.run_dir);
    return {*config.experiment.run_dir};
  }
  const std::tm local = fmt::localtime(now);
  return {make_new_folder(fs::path("runs") / "single" / fmt::format("{:%Y-%m-%d}", local) /
                          fmt::format("{:%H-%M-%S}_{}", local, config.model.tensor_lifting_strategy))};
}

fs::path make_multirun_folder(const Config& config, std::time_t now) {
  if (config.experiment.run_dir) {
    make_folders(*config.experiment.run_dir);
    return *config.experiment.run_dir;
  }
  const std::tm local = fmt::localtime(now);
  return make_new_folder(fs::path("runs") / "multirun" / fmt::format("{:%Y-%m-%d}", local) /
                         fmt::format("{:%H-%M-%S}", local));
}

void claim_multirun_folder(const fs::path& above, std::size_t runs) {
  write_new_file(above / kMultirun, Json{{"runs", runs}}.dump() + "\n");
}

RunFolder make_multirun_member(const fs::path& above, std::size_t index, const Config& config) {
  const fs::path folder = above / member_name(index, config);
  make_folders(folder);
  return {folder};
}

}  // namespace wedge::app
