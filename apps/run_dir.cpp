#include "apps/run_dir.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <map>
#include <optional>

#include "apps/files.h"
#include "models/mixers.h"
#include "tensor/atomic_file.h"
#include "tensor/check.h"

namespace wedge::app {

namespace fs = std::filesystem;

namespace {

const char* const kMultirun = "multirun.json";

std::string member_name(std::size_t index, const Config& config) {
  return fmt::format("{}_{}", index, config.model.tensor_lifting_strategy);
}

// Whether `entry` is a log, still empty: what a process of an earlier version left that was killed at its
// beginning.
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

// Whether `name` looks like one of a run of a multirun, or of a copy of it: "0_attention", "0_attention.bak".
bool is_like_member(const std::string& name) {
  const std::size_t digits = name.find_first_not_of("0123456789");
  return digits != 0 && digits != std::string::npos && name[digits] == '_';
}

// The number of the run that a multirun calls so: 0 for "0_attention", nothing for "0_attention.bak".
std::optional<std::size_t> member_index(const std::string& name) {
  std::size_t index = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (error != std::errc()) return {};
  const auto is_its_name = [&](const MixerEntry& mixer) {
    return name == fmt::format("{}_{}", index, mixer.name);
  };
  return std::ranges::any_of(mixer_table(), is_its_name) ? std::optional(index) : std::nullopt;
}

// How many runs multirun.json says that there are.
std::size_t runs_of_multirun(const fs::path& above) {
  const fs::path file = above / kMultirun;
  const Json json = parse_json(read_file(file, kMostOfJson));
  const bool good = json.is_object() && json.contains("runs") && json["runs"].is_number_unsigned();
  WEDGE_CHECK(
      good, "{}: damaged; expected {{\"runs\":NUMBER}}; to go on with the runs that are beside it, remove it",
      file.string());
  return json["runs"];
}

// Whether nothing below holds more than configurations: no run has begun.
bool holds_no_work(const fs::path& above) {
  std::error_code error;
  for (fs::recursive_directory_iterator entry(above, error), end; !error && entry != end;
       entry.increment(error)) {
    const fs::path name = entry->path().filename();
    const bool of_setup = name == "config.json" || name == kMultirun || AtomicFile::is_temporary(name);
    if (!of_setup && !entry->is_directory(error)) return false;
  }
  return !error;
}

std::string what_is_missing(const fs::path& above, std::size_t found, std::size_t expected) {
  return fmt::format(
      "{}: expected as many runs as {} says, {}, found {}: {}to go on with these alone, remove {}",
      above.string(), kMultirun, expected, found,
      holds_no_work(above) ? "it was ended while their configurations were written, and none was "
                             "trained: remove it and start again; "
                           : "",
      (above / kMultirun).string());
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
  std::error_code error;
  // A multirun of before that file was written has none.
  const bool counted = fs::exists(above / kMultirun, error);
  const std::size_t expected = counted ? runs_of_multirun(above) : SIZE_MAX;
  std::map<std::size_t, RunFolder> members;
  for (const fs::directory_entry& entry : fs::directory_iterator(above, error)) {
    const RunFolder member{entry.path()};
    const auto index = member_index(member.path.filename().string());
    if (!index || *index >= expected || !fs::exists(member.config(), error)) continue;
    const auto [other, is_new] = members.try_emplace(*index, member);
    WEDGE_CHECK(is_new, "{} and {} both are run {} of a multirun: move the one that is a copy elsewhere",
                other->second.path.string(), member.path.string(), *index);
  }
  WEDGE_CHECK(!counted || members.size() == expected, "{}", what_is_missing(above, members.size(), expected));
  std::vector<RunFolder> in_order;
  for (auto& [index, member] : members) in_order.push_back(std::move(member));
  return in_order;
}

bool is_copied_member(const fs::path& run) {
  const std::string name = run.filename().string();
  return is_like_member(name) && !member_index(name) && is_there(run.parent_path() / kMultirun);
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
    if (is_like_member(entry.path().filename().string()) && (multirun || entry.is_directory(absent)))
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

void claim_single_folder(const RunFolder& folder, const Config& config) {
  const FolderLock alone(folder.path);
  check_run_folders({config}, false);
  write_file(folder.config(), to_json(config).dump(2) + "\n");
}

void claim_multirun_folder(const fs::path& above, const std::vector<Config>& configs) {
  const FolderLock alone(above);
  check_run_folders(configs, true);
  write_new_file(above / kMultirun, Json{{"runs", configs.size()}}.dump() + "\n");
}

RunFolder make_multirun_member(const fs::path& above, std::size_t index, const Config& config) {
  const fs::path folder = above / member_name(index, config);
  make_folders(folder);
  return {folder};
}

}  // namespace wedge::app
