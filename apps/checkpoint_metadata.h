// What a checkpoint says of itself, so that the file alone is enough to evaluate it.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/config.h"
#include "models/language_model.h"
#include "tensor/safetensors.h"

namespace wedge::app {

// The metadata of a run's checkpoints. Keys, all text: format_version; model, data and train, each the JSON
// object of that group's configuration; seed; vocab_size; vocabulary, the pieces in order of id with \n
// between them (absent for corpora that come as token ids). Holds nothing that differs between two equal
// runs.
std::map<std::string, std::string> make_metadata(const Config& config, std::int64_t vocab_size,
                                                 const std::vector<std::string>& vocabulary);

struct Checkpoint {
  SafetensorsFile file;
  Config config = {};  // the keys that are kept (Key::in_checkpoint); the rest as by default
  std::int64_t vocab_size = 0;
  std::vector<std::string> vocabulary = {};  // empty: none was stored
};

// Opens the file that `path` means: of a folder the best.safetensors in it. Throws wedge::Error, one line
// with the path, for a file that is no .safetensors, the folder of a multirun or of a run that has no
// checkpoint, or a run's state.
SafetensorsFile open_checkpoint(const std::filesystem::path& path);

// Reads the metadata of open_checkpoint(path). Throws wedge::Error as that does, and when the file has no
// metadata of wedge's, or its tensors are not those of the model that it describes.
Checkpoint read_checkpoint(const std::filesystem::path& path);

// The model with the checkpoint's weights. Throws wedge::Error as load_weights does.
std::unique_ptr<LanguageModel> load_model(const Checkpoint& checkpoint, Device device = Device::cpu);

// Throws wedge::Error naming the file, from which the weights came, and the parameter when a number of it is
// not finite.
void check_finite(const LanguageModel& model, const std::filesystem::path& file);

}  // namespace wedge::app
