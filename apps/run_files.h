// The files of a run while it trains.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "apps/config.h"
#include "apps/divergence.h"
#include "apps/files.h"
#include "apps/progress.h"
#include "apps/results.h"
#include "apps/run_dir.h"
#include "apps/run_state.h"
#include "apps/tensorboard.h"
#include "data/corpus.h"
#include "models/language_model.h"
#include "models/optimizer.h"

namespace wedge::app {

// Writes them, and holds the lock of their folder. Everything throws wedge::Error when the system refuses.
class RunFiles {
 public:
  // Takes the lock. The run goes on from `state` or, where there is none or another process had the lock
  // before and took it away, from the newest in the folder. Throws wedge::Error where another process has the
  // lock, and where the run is finished. `config` must outlive this object.
  RunFiles(const RunFolder& folder, const Config& config, const data::Corpus& corpus,
           const std::optional<std::filesystem::path>& state);

  const std::filesystem::path& path() const { return folder_.path; }
  const std::string& corpus() const { return corpus_; }  // fingerprint

  // Puts model and optimizer where the run goes on from, says how far that is, and clears away what is of
  // later steps, or of an earlier run.
  RunProgress begin(LanguageModel& model, AdamW& optimizer);

  // A line of metrics.jsonl, and what TensorBoard shows.
  void log(const StepReport& report);
  void log(const EpochReport& report, std::int64_t last_step);
  void log(const Divergence& divergence);  // the last line

  // last.safetensors, and best.safetensors too.
  void save_checkpoint(const LanguageModel& model, bool best);
  // last.safetensors, if this run has written one.
  std::optional<std::filesystem::path> checkpoint() const;

  // Writes the state and keeps the one before it.
  void save_state(RunProgress done, const LanguageModel& model, const AdamW& optimizer);

  void finish(const RunResult& result);

 private:
  RunProgress go_on(LanguageModel& model, AdamW& optimizer);
  void keep_two_states() const;

  RunFolder folder_;
  const Config& config_;
  std::string corpus_;
  std::map<std::string, std::string> metadata_;
  LineLog metrics_;                             // holds the lock
  std::optional<std::filesystem::path> state_;  // to go on from
  std::optional<TensorboardLog> tensorboard_;
  std::filesystem::path saved_, before_;  // the newest states
  bool have_checkpoint_ = false;
};

}  // namespace wedge::app
