// What a run is: the groups model, data, train and experiment, and the seed. The keys of the command line,
// their defaults, ranges and documentation are in config_keys.cpp; named sets of them in conf/presets.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "data/corpus.h"
#include "models/model_config.h"
#include "tensor/json.h"

namespace wedge::app {

using Json = nlohmann::ordered_json;

// `text` as JSON; discarded (is_discarded()) when it is none, is followed by anything, or is nested more than
// 32 deep: what is written out again is walked by recursion.
Json parse_json(std::string_view text);

struct DataConfig : data::CorpusOptions {
  std::int64_t max_context_len = 128;  // L: inputs and targets of a block
};

struct TrainConfig {
  std::string device = "auto";  // auto | cpu | cuda
  std::int64_t batch_size = 32;
  std::int64_t num_epochs = 30;
  std::int64_t accumulate = 1;
  std::int64_t warmup_steps = 0;
  std::optional<std::int64_t> max_steps;
  std::optional<std::int64_t> checkpoint_every;
  double learning_rate = 1e-3;
  double weight_decay = 0.01;
  std::optional<double> grad_clip = 1.0;
  double dropout_rate = 0.1;
  bool shuffle = true;
  bool amp = true;
  bool amp_on_cpu = false;
  bool graph = true;
  std::optional<std::string> init_from;
  bool tensorboard = false;
  std::optional<std::int64_t> threads;
  std::int64_t num_workers = 0;  // accepted, does nothing
  bool pin_memory = false;       // accepted, does nothing
};

struct ExperimentConfig {
  std::string name = "paper_6l_128";
  std::optional<std::string> run_dir;
};

struct Config {
  ModelConfig model;  // vocab_size, max_context_len and dropout_rate are not keys of it: see complete_model
  DataConfig data;
  TrainConfig train;
  ExperimentConfig experiment;
  std::uint64_t seed = 42;
};

// The model of a run: config.model with data.max_context_len, train.dropout_rate and the vocabulary's size.
ModelConfig complete_model(const Config& config, std::int64_t vocab_size);

// What the mixer table calls a model with this mixer (TransformerLM, GrassmannLM); for a mixer that is not
// in it, its name.
std::string model_name(const std::string& strategy);

// Checks what a single key cannot: that the values fit each other, and that the device exists. Throws
// wedge::Error. The vocabulary's size is not known yet; ModelConfig::validate runs again when it is.
void validate(const Config& config);

enum class ConfigPart {
  all,         // every key
  checkpoint,  // without what may differ between two equal runs: Key::in_checkpoint()
};

// Nested by group, in the order of the key table.
Json to_json(const Config& config, ConfigPart part = ConfigPart::all);

// Sets the keys that `json` (nested by group) holds. Throws wedge::Error naming `origin` and the key when a
// key is unknown or a value is wrong.
void update_from_json(Config& config, const Json& json, const std::string& origin);

}  // namespace wedge::app
