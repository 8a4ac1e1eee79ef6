// What metrics.jsonl tells of a run, as curves over epochs.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/divergence.h"
#include "apps/gnuplot.h"
#include "apps/results.h"
#include "apps/run_dir.h"
#include "apps/summarize.h"

namespace wedge::app {

struct LearningCurve {
  std::string label;
  // Training loss of the steps, at the part of the epochs that was done by then; and of the epochs' ends.
  std::vector<double> step_epochs, step_losses;
  std::vector<double> val_epochs, val_losses;
  std::optional<RunResult> result;  // of a run that is finished
  std::optional<Divergence> diverged;
  Json config;                        // null where there is no config.json
  std::optional<std::string> corpus;  // checksum, of results.json or the newest state
};

// Reads metrics.jsonl, and config.json and results.json where they are. A last line that breaks off, as of a
// run that was killed, is left out; throws wedge::Error naming file and line for any other that is not
// understood.
LearningCurve read_curve(const RunFolder& folder, const std::string& label);

// The runs in a folder and below, labelled as label_of() says, in natural order. Throws wedge::Error as
// find_files() does, and when there is none. What copies find_runs() finds are added to `copies`.
std::vector<LearningCurve> find_curves(const std::filesystem::path& root, bool one_of_several = false,
                                       std::vector<FoundRun>* copies = nullptr);

// In all pictures a run is called by its label, its experiment.name and the keys that tell it from others.
//
// Validation loss by epoch, and behind it the training loss, each point the mean of about 1/200 of the run.
Curves picture_of(const std::vector<LearningCurve>& curves);
// The best validation perplexity of each finished run, then the published ones for the same experiments.
Bars best_of(const std::vector<LearningCurve>& curves);
// Tokens a second of each finished run that says so.
Bars throughput_of(const std::vector<LearningCurve>& curves);

}  // namespace wedge::app
