#include "apps/published.h"

#include <cmath>

#include "apps/config_keys.h"

namespace wedge::app {

namespace {

struct Experiment {
  const char* source;
  std::int64_t layers, context_len;
  bool founding;                // the first 800 and 200 rows, else all
  const char* style;            // order of norms, initial weights; empty: not said
  double attention, grassmann;  // perplexities
};

// Losses of the founding experiment, as perplexities.
const Experiment kExperiments[] = {
    {"reproduction in PyTorch, 3 epochs on the CPU", 6, 128, true, "post torch", std::exp(23.8336),
     std::exp(23.5390)},
    {"reproduction in PyTorch, 30 epochs, fp16", 6, 128, false, "post torch", 238.71, 321.05},
    {"arXiv 2512.19428", 6, 128, false, "", 248.4, 275.7},
    {"reproduction in PyTorch, 30 epochs, pre-norm", 12, 256, false, "pre gpt2", 218.28, 200.29},
    {"reproduction in PyTorch, 30 epochs, post-norm", 12, 256, false, "post torch", 1381.35, 290.60},
    {"arXiv 2512.19428", 12, 256, false, "", 235.2, 261.1},
};

}  // namespace

std::vector<Published> published_for(const Json& config) {
  const auto get = [&](const char* name) { return get_key(config, find_key(name)); };
  const auto text = [&](const char* name) {
    const Json value = get(name);
    return value.is_string() ? value.get<std::string>() : "";
  };
  const std::string source = text("data.source");
  if ((source != "parquet" && source != "text") || !get("data.path").is_null()) return {};
  const Json rows = get("data.max_samples_train");
  const std::string style = (get("model.pre_norm") == true ? "pre " : "post ") + text("model.init");
  std::vector<Published> found;
  for (const Experiment& e : kExperiments) {
    if (get("model.num_layers") != e.layers || get("data.max_context_len") != e.context_len ||
        (*e.style != 0 && style != e.style) || (e.founding ? rows != 800 : !rows.is_null()))
      continue;
    found.push_back({e.source, "attention", e.attention});
    found.push_back({e.source, "grassmann", e.grassmann});
  }
  return found;
}

}  // namespace wedge::app
