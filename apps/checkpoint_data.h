// What the commands that look at a checkpoint work on: the model, and blocks of a text.
#pragma once

#include <memory>

#include "apps/checkpoint_metadata.h"
#include "apps/words.h"
#include "data/blocks.h"
#include "data/split.h"

namespace wedge::app {

struct CheckpointData {
  Checkpoint checkpoint;
  Config config;  // the checkpoint's, with the words over it
  std::unique_ptr<LanguageModel> model;
  data::Split split;
  data::Blocks blocks;  // of it
};

// Reads checkpoint=, applies the keys among the words to its configuration, sets the number of threads, and
// loads the data.split= ("train", "validation", the default, or "test") and the model. Throws wedge::Error.
CheckpointData load_checkpoint_data(const Words& words);

}  // namespace wedge::app
