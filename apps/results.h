// What a run found out: results.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/config.h"

namespace wedge::app {

struct RunResult {
  std::string strategy;  // the mixer's name
  std::int64_t num_params = 0;
  double best_val_loss = 0;          // smallest of val_losses; perplexity is exp of it
  std::vector<double> train_losses;  // by epoch: mean over its batches
  std::vector<double> val_losses;
  std::optional<double> tokens_per_second;  // training tokens / time of the training steps
  std::optional<double> floor;  // built-in corpus: the loss that no model can beat on this validation set
  std::optional<std::string> corpus;  // checksum of its tokens, as in the run's states
  Json config;                        // whole configuration; null where a file has none
};

// best_val_ppl is null where exp of the loss is more than a double can hold.
Json to_json(const RunResult& result);

// Reads a results.json, of wedge or of the PyTorch reproduction: strategy, num_params and best_val_loss must
// be there. Throws wedge::Error naming the file and the key.
RunResult read_result(const std::filesystem::path& path);

// Makes the runs' configurations such that equal experiments have equal ones. Where a corpus lies makes no
// difference: runs of the same one get the first one's places, and where two corpora lie in one place, and no
// other key of data tells them apart, its checksum is added to data.path. What an older file lacks gets its
// default.
void make_comparable(const std::vector<RunResult*>& runs);

// What the runs' users call them, each after a comma, to be appended to a label; nothing where
// experiment.name is the same in all.
std::vector<std::string> names_that_differ(const std::vector<Json>& configs);

}  // namespace wedge::app
