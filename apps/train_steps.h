// Steps of training as the device does them: one after another without waiting, on a GPU as graphs that are
// replayed.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "apps/batch_feed.h"
#include "apps/config.h"
#include "apps/step_clock.h"
#include "data/batches.h"
#include "data/blocks.h"
#include "models/language_model.h"
#include "models/optimizer.h"
#include "tensor/cuda/graph.h"
#include "tensor/storage.h"

namespace wedge::app {

// A step and what came of it.
struct StepResult {
  std::int64_t step, tokens;
  double learning_rate;
  std::vector<double> weights;  // of its batches: shares of its tokens
  std::vector<double> losses;   // of its batches
  double grad_norm = 0;
  double sum_of_losses() const;
  double mean_loss() const;  // over the tokens
};

class TrainSteps {
 public:
  // All must outlive this object, and the model's dropout counter is set to the clock's.
  TrainSteps(const Config& config, const data::Blocks& blocks, const data::Batches& batches,
             LanguageModel& model, AdamW& optimizer);

  std::int64_t per_epoch() const { return per_epoch_; }
  // Batches of the epoch's step that begins with batch `first`.
  std::int64_t micro_steps(std::int64_t first) const;

  // To be called after batches.start_epoch, and when `batches_done` batches of the epoch are done. `step`
  // comes next; `learning_rates` are those of all steps of the epoch.
  void start_epoch(std::int64_t step, std::int64_t batches_done, std::span<const double> learning_rates);

  // Gives the device the next step, which begins with batch `first`.
  void run(std::int64_t step, std::int64_t first);

  // Whether so many steps are under way, or since so long, that they should be read.
  bool is_due() const;
  // Waits for the steps that were not read, and returns them; `seconds` is how long they took together.
  std::vector<StepResult> read(double& seconds);

 private:
  using Clock = std::chrono::steady_clock;

  // The graphs of a step's batches: of the first, which assigns gradients, of those that add to them, and of
  // the last, which the update follows (with one batch, the only one).
  struct Graphs {
    bool ran = false;
    cu::Graph first, middle, last;
  };

  StepResult describe(std::int64_t step, std::int64_t first) const;
  void run_micro_step(std::int64_t batch, double weight, bool last);

  const data::Blocks& blocks_;
  const data::Batches& batches_;
  LanguageModel& model_;
  AdamW& optimizer_;
  std::int64_t batch_size_, accumulate_, per_epoch_, unread_limit_;
  BatchFeed feed_;
  StepClock clock_;
  bool use_graphs_;
  MemoryPool pool_;
  std::optional<MemoryPool::Scope> set_apart_;
  std::map<std::pair<std::int64_t, std::int64_t>, Graphs> graphs_;
  std::vector<double> learning_rates_;
  std::vector<StepResult> unread_;
  Clock::time_point unread_since_;
};

}  // namespace wedge::app
