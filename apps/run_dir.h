// Where a run's files go.
#pragma once

#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

#include "apps/config.h"

namespace wedge::app {

// The files of one run, in a folder that exists.
struct RunFolder {
  std::filesystem::path path;

  std::filesystem::path config() const { return path / "config.json"; }
  std::filesystem::path metrics() const { return path / "metrics.jsonl"; }
  std::filesystem::path results() const { return path / "results.json"; }
  std::filesystem::path best() const { return path / "best.safetensors"; }
  std::filesystem::path last() const { return path / "last.safetensors"; }

  // What a run goes on from after so many steps; see run_state.h.
  std::filesystem::path state(std::int64_t step) const;
  // Those that are there, the newest first.
  std::vector<std::filesystem::path> states() const;
  // Whether `file` is named as state() does.
  static bool is_state(const std::filesystem::path& file);
  // Removes what a process that was killed while it wrote has left: temporary files of AtomicFile, and no
  // others.
  void remove_leftovers() const;
};

// The folders of a multirun's runs in `above` that hold a configuration, in order of number; other folders,
// such as copies under other names, are none. Throws wedge::Error when multirun.json says that there should be
// more, and when two have one number.
std::vector<RunFolder> find_members(const std::filesystem::path& above);

// Whether `run` lies in a multirun's folder as one of its runs does and find_members() takes it for none: a
// copy such as 0_attention.bak.
bool is_copied_member(const std::filesystem::path& run);

// Throws wedge::Error when experiment.run_dir, as these configurations give it, cannot be used: it is no
// folder, or it or a run's folder below it already holds a checkpoint (*.safetensors) or anything under a
// name that a run writes, or single runs and those of one multirun or another would be mixed in it, or the
// runs of a multirun do not agree on it. Makes nothing.
void check_run_folders(const std::vector<Config>& configs, bool multirun);

// Makes the folder of a single run: experiment.run_dir, or runs/single/DATE/TIME_STRATEGY, with _2, _3, ...
// after it when another run took that name in the same second. Throws wedge::Error.
RunFolder make_single_folder(const Config& config, std::time_t now);

// Makes the folder above the runs of a multirun: experiment.run_dir or runs/multirun/DATE/TIME. Throws
// wedge::Error.
std::filesystem::path make_multirun_folder(const Config& config, std::time_t now);

// Takes that folder for this process's run or multirun, of two that start there at once for the first alone:
// writes config.json, or before any run's configuration multirun.json, {"runs": NUMBER}. Throws wedge::Error
// where check_run_folders now does: another process was there first.
void claim_single_folder(const RunFolder& folder, const Config& config);
void claim_multirun_folder(const std::filesystem::path& above, const std::vector<Config>& configs);

// Makes a run's folder below it: N_STRATEGY. Throws wedge::Error.
RunFolder make_multirun_member(const std::filesystem::path& above, std::size_t index, const Config& config);

}  // namespace wedge::app
