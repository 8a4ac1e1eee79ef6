// What the commands that look at a checkpoint work on: the model, and blocks of a text.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apps/checkpoint_metadata.h"
#include "data/blocks.h"
#include "data/split.h"

namespace wedge::app {

struct CheckpointData {
  Checkpoint checkpoint;
  Config config;  // the checkpoint's, with the words over it
  std::unique_ptr<LanguageModel> model;
  data::Blocks blocks;
};

// Reads the checkpoint, applies the words that may change where data comes from and how it is run
// (data=PRESET, data.*, train.batch_size, train.threads, train.device, train.amp), sets the number of
// threads, and loads `split` ("train", "validation" or "test") and the model. Throws wedge::Error, naming `command`
// where a word is not allowed.
CheckpointData load_checkpoint_data(std::string_view command, const std::string& path,
                                    const std::string& split, const std::vector<std::string>& words);

}  // namespace wedge::app
