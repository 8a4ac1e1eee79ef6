// What a training run tells while it runs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace wedge::app {

struct RunStart {
  std::string title;  // "TransformerLM, 12.59 M parameters"
  std::int64_t num_epochs = 0;
  std::int64_t total_steps = 0;  // that will be done: with train.max_steps fewer than the schedule has
  std::int64_t steps_per_epoch = 0;
  std::int64_t first_step = 0;  // steps done before, by a run that this one goes on from
};

struct StepReport {
  std::int64_t step = 0;   // from 0
  std::int64_t epoch = 0;  // from 1
  double loss = 0;         // mean over the step's tokens
  double learning_rate = 0;
  double grad_norm = 0;  // before clipping
  double tokens_per_second = 0;
};

struct EpochReport {
  std::int64_t epoch = 0;  // from 1
  double train_loss = 0, val_loss = 0;
  bool best = false;  // the smallest validation loss so far
};

class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  virtual void start(const RunStart&) {}
  virtual void step(const StepReport&) {}
  virtual void epoch(const EpochReport&) {}
};

// For standard output: one line that is rewritten on a terminal; elsewhere about ten plain lines an epoch.
std::unique_ptr<ProgressSink> make_console_progress();

}  // namespace wedge::app
