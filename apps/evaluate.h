// Loss of a model over a set of blocks.
#pragma once

#include <cstdint>
#include <functional>

#include "data/blocks.h"
#include "models/language_model.h"

namespace wedge::app {

struct Evaluation {
  double mean_over_tokens = 0;
  double mean_over_batches = 0;  // what an epoch's validation loss is
  std::int64_t tokens = 0;
};

// Runs every block once, in order, without dropout and without recording a graph. Leaves the model in
// evaluation mode. May return a loss that is not finite. What `before_batch` throws ends it.
Evaluation evaluate(
    LanguageModel& model, const data::Blocks& blocks, std::int64_t batch_size,
    const std::function<void()>& before_batch = [] {});

}  // namespace wedge::app
