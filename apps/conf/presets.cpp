#include "apps/conf/presets.h"

#include "apps/config_keys.h"
#include "models/mixers.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

std::vector<Preset> make_presets() {
  std::vector<Preset> list;
  for (const MixerEntry& mixer : mixer_table())
    list.push_back({"model", mixer.name, mixer.model_name, {"model.tensor_lifting_strategy=" + mixer.name}});

  list.insert(
      list.end(),
      {
          {"data", "wikitext2", "WikiText-2 raw, the official Parquet files", {"data.source=parquet"}},
          {"data", "text", "text files, one row a line", {"data.source=text"}},
          {"data", "tokens", "token ids in a .safetensors file, data.path", {"data.source=tokens"}},
          {"data", "builtin", "English-like text that wedge makes itself", {"data.source=builtin"}},

          {"experiment", "paper_6l_128", "the paper's 6 layers at L = 128", {"experiment.name=paper_6l_128"}},
          {"experiment",
           "paper_12l_256",
           "the paper's 12 layers at L = 256, stabilised",
           {"experiment.name=paper_12l_256", "model.num_layers=12", "model.layerwise_lags=true",
            "model.lags=[1,1,2,2,4,4,8,8,12,12,16,16]", "model.pre_norm=true", "model.init=gpt2",
            "data.max_context_len=256", "train.batch_size=16", "train.num_epochs=30"}},
          {"experiment",
           "quick",
           "a small model, minutes on two cores; meant for data=builtin",
           {"experiment.name=quick", "model.num_layers=2", "model.d_model=128", "model.d_low=16",
            "model.pre_norm=true", "model.init=gpt2", "data.max_context_len=64", "train.batch_size=16",
            "train.num_epochs=8", "train.learning_rate=3e-3", "train.dropout_rate=0",
            "train.warmup_steps=50"}},
      });
  return list;
}

}  // namespace

const std::vector<PresetGroup>& preset_groups() {
  static const std::vector<PresetGroup> groups = {
      {"model", "attention"}, {"data", "wikitext2"}, {"experiment", "paper_6l_128"}};
  return groups;
}

const std::vector<Preset>& presets() {
  static const std::vector<Preset> list = make_presets();
  return list;
}

const Preset& find_preset(std::string_view group, std::string_view name) {
  std::vector<std::string_view> names;
  for (const Preset& preset : presets()) {
    if (preset.group != group) continue;
    if (preset.name == name) return preset;
    names.push_back(preset.name);
  }
  throw Error(fmt::format("{}={}: no such preset; there is {}", group, name, fmt::join(names, ", ")));
}

}  // namespace wedge::app
