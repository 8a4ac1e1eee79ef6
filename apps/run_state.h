// What a run goes on from: state_STEP.safetensors in its folder.
//
// Tensors: the weights under the names that checkpoints have, AdamW's moments as exp_avg.NAME and
// exp_avg_sq.NAME (PyTorch's words). Metadata: format_version; config, the part of the configuration that
// decides the bits; corpus, a checksum of its tokens; progress, see below, as JSON; and crc32 of all that, of
// the tensors' names and of their bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "apps/config.h"
#include "apps/run_dir.h"
#include "data/corpus.h"
#include "models/language_model.h"
#include "models/optimizer.h"

namespace wedge::app {

// How far a run is. The order of blocks follows from seed and epoch, dropout from seed, step and batch, and
// the learning rate from the step: that is all there is to know.
struct RunProgress {
  std::int64_t step = 0;                         // steps done
  std::int64_t batches_done = 0;                 // of the epoch under way
  double sum_of_batches = 0;                     // and the sum of their losses
  std::vector<double> train_losses, val_losses;  // of the epochs that are finished
  std::int64_t tokens = 0;                       // trained on
  double seconds = 0;                            // that the steps took
  std::uint64_t metrics_bytes = 0;               // length of metrics.jsonl
};

// Checksum of what a run reads of its corpus, eight hexadecimal digits.
std::string fingerprint(const data::Corpus& corpus);

// Writes `path` at once or not at all. Throws wedge::Error.
void save_state(const std::filesystem::path& path, const Config& config, const std::string& corpus,
                const LanguageModel& model, const AdamW& optimizer, const RunProgress& progress);

// Puts weights and moments back and returns the rest. Throws wedge::Error, one line with the path, and
// changes nothing, when the file is damaged (the checksum tells) or of another configuration or corpus; the
// corpus may have moved.
RunProgress load_state(const std::filesystem::path& path, const Config& config, const std::string& corpus,
                       LanguageModel& model, AdamW& optimizer);

// The state to go on from: the newest in the folder; none: nothing. Throws wedge::Error when that file is
// damaged; the line names the newest one that is not. Also when there is none, but metrics.jsonl tells that
// there was one.
std::optional<std::filesystem::path> newest_state(const RunFolder& folder);

// Throws wedge::Error when the file is damaged or no state of a run.
void check_state(const std::filesystem::path& path);
// Throws wedge::Error when it is no state, or that of a run on another corpus than the one of this checksum. Reads
// no more than the header.
void check_corpus(const std::filesystem::path& path, const std::string& corpus);
// The checksum of the corpus of its run; none where the file can't be read or is no state.
std::optional<std::string> corpus_of_state(const std::filesystem::path& path);

}  // namespace wedge::app
