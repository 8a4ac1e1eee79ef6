// Training: a configuration and a corpus in, a result out, and on the way the files of a run.
#pragma once

#include "apps/config.h"
#include "apps/progress.h"
#include "apps/results.h"
#include "apps/run_dir.h"
#include "data/corpus.h"
#include "tensor/check.h"

namespace wedge::app {

// The loss or the gradient's norm was not finite: the message names the step.
class DivergenceError : public Error {
 public:
  using Error::Error;
};

// A run stopped because a file could not be written, as on a full disk: the message names it. What was saved
// before is whole, and can be gone on from.
class UnfinishedError : public Error {
 public:
  using Error::Error;
};

// Throws what train() would throw before its first step: a model that does not fit or is too large for the
// memory (std::bad_alloc) or beyond what the device's kernels can do, no whole block in train or validation,
// weights of train.init_from that cannot be loaded (not asked for in a run that goes on). Writes nothing.
void check_trainable(const Config& config, const data::Corpus& corpus, bool goes_on = false);

// Trains a model with AdamW on the mean cross-entropy of a batch's tokens, the learning rate on a cosine over
// all steps, validates it after every epoch, and returns what came of it.
//
// A step takes train.accumulate batches (the last of an epoch what is left) and the gradient of the mean loss
// over all their tokens, as one batch of that size would. The schedule is that of all epochs whatever
// train.max_steps says; a run that it stops is validated and saved as at the end of an epoch.
//
// With a folder, writes config.json at once, metrics.jsonl as it goes, last.safetensors after every epoch,
// best.safetensors after one with the smallest validation loss so far, state_STEP.safetensors after every
// epoch and every train.checkpoint_every steps (the newest two are kept), and results.json in the end; all
// but metrics.jsonl are replaced as a whole. Throws DivergenceError, and leaves the checkpoints of the epochs
// before and a last line in metrics.jsonl (divergence.h), when a loss or a gradient is not finite;
// UnfinishedError when a file cannot be written. At a first SIGINT or SIGTERM finishes the step, or the batch
// that is validated, writes the state, and throws Interrupted; a second one ends the process.
//
// On a GPU a step waits for nothing: losses and norms are read back every 32 steps, once a second and at an
// epoch's end, and only then told to `progress`, written to metrics.jsonl and found not finite. The error is
// the one that it would have been at once, and names the step where it happened; the steps given to the GPU
// since then are lost with the model. Tokens per second are the mean over the steps that were read together.
// With train.graph steps are replayed as CUDA graphs, one for each size of batch and its place in the step.
//
// With `state`, a state_STEP.safetensors of that folder, goes on from it and ends with the same files as if
// the run had never stopped, but for the times in them and the names of files that moved; without, from the
// newest state in the folder, if one is there. Throws wedge::Error as load_state does, and where the folder
// has a results.json: the run is finished.
//
// Same configuration, corpus, build and number of threads: same bits.
RunResult train(const Config& config, const data::Corpus& corpus, const RunFolder* folder,
                ProgressSink& progress, const std::optional<std::filesystem::path>& state = {});

}  // namespace wedge::app
