#include "apps/published.h"

#include <algorithm>
#include <cmath>

#include "apps/compose.h"
#include "apps/config_keys.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

struct Experiment {
  const char* source;
  std::vector<std::string> words;  // of wedge train
  bool any_style;                  // the source says neither the order of norms nor the initial weights
  double attention, grassmann;     // perplexities
};

// Losses of the founding experiment, as perplexities.
std::vector<Experiment> experiments() {
  const std::string six = "experiment=paper_6l_128", twelve = "experiment=paper_12l_256";
  return {
      {"reproduction in PyTorch, 3 epochs on the CPU",
       {six, "train.num_epochs=3", "train.batch_size=16", "data.max_samples_train=800",
        "data.max_samples_val=200"},
       false,
       std::exp(23.8336),
       std::exp(23.5390)},
      {"reproduction in PyTorch, 30 epochs, fp16", {six}, false, 238.71, 321.05},
      {"arXiv 2512.19428", {six}, true, 248.4, 275.7},
      {"reproduction in PyTorch, 30 epochs, pre-norm", {twelve}, false, 218.28, 200.29},
      {"reproduction in PyTorch, 30 epochs, post-norm",
       {twelve, "model.pre_norm=false", "model.init=torch"},
       false,
       1381.35,
       290.60},
      {"arXiv 2512.19428", {twelve}, true, 235.2, 261.1},
  };
}

// Whether the runs of two configurations are the same experiment, whatever the seed, the mixer and the kind
// of WikiText-2's files.
bool is_same(const Config& a, const Config& b, bool any_style) {
  const auto is_free = [&](const Key& key) {
    return !key.in_checkpoint() || key.name == "seed" || key.name == "model.tensor_lifting_strategy" ||
           key.name == "data.source" || key.name == "train.amp" || key.name == "train.amp_on_cpu" ||
           (any_style && (key.name == "model.pre_norm" || key.name == "model.init"));
  };
  return std::ranges::all_of(
      config_keys(), [&](const Key& key) { return is_free(key) || get_key(a, key) == get_key(b, key); });
}

}  // namespace

std::vector<Published> published_for(const Json& json) {
  // What wrote this may not be wedge, nor say where its texts came from.
  const Json source = get_key(json, find_key("data.source"));
  if (source != "parquet" && source != "text") return {};
  Config config;
  try {
    update_from_json(config, json, "");
  } catch (const Error&) {
    return {};
  }
  std::vector<Published> found;
  for (const Experiment& e : experiments()) {
    if (!is_same(config, compose(e.words, false).front(), e.any_style)) continue;
    found.push_back({e.source, "attention", e.attention});
    found.push_back({e.source, "grassmann", e.grassmann});
  }
  return found;
}

}  // namespace wedge::app
