// wedge eval: loss and perplexity of a checkpoint on a split.
#include <cmath>

#include "apps/checkpoint_data.h"
#include "apps/commands.h"
#include "apps/console.h"
#include "apps/evaluate.h"
#include "apps/help.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

constexpr std::string_view kCheckpoint = "checkpoint=", kSplit = "data.split=";

}  // namespace

std::string eval_help() {
  return "usage: wedge eval checkpoint=FILE_OR_RUN_DIR [data.split=SPLIT] [data overrides]\n"
         "\n"
         "Prints one JSON object: loss (mean cross-entropy over tokens), perplexity (exp of it; null where "
         "that\n"
         "is more than a number can hold) and tokens.\n"
         "The checkpoint itself holds the model, the data configuration and the vocabulary.\n"
         "\n"
         "  checkpoint=FILE_OR_RUN_DIR     a .safetensors file of wedge train; a run folder means its\n"
         "                                 best.safetensors\n"
         "  data.split=SPLIT               train, validation or test (default: validation)\n"
         "\n"
         "data=PRESET, train.batch_size, train.threads, train.device, train.amp and these keys replace what "
         "the "
         "checkpoint\n"
         "says; shown are the defaults of wedge train:\n" +
         describe_keys({"data"}) +
         "\n"
         "examples:\n"
         "  wedge eval checkpoint=runs/single/DATE/TIME_grassmann\n"
         "  wedge eval checkpoint=last.safetensors data.split=test data.path=my_texts\n";
}

int run_eval(const Arguments& arguments) {
  std::string path, split = "validation";
  Arguments overrides;
  for (const std::string& word : arguments) {
    if (word.starts_with(kCheckpoint))
      path = word.substr(kCheckpoint.size());
    else if (word.starts_with(kSplit))
      split = word.substr(kSplit.size());
    else
      overrides.push_back(word);
  }
  WEDGE_CHECK(!path.empty(), "eval: checkpoint=FILE_OR_RUN_DIR is missing");
  const CheckpointData loaded = load_checkpoint_data("eval", path, split, overrides);
  const Bf16ProductsGuard reduced(loaded.config.train.amp);
  const Evaluation evaluation = evaluate(*loaded.model, loaded.blocks, loaded.config.train.batch_size);
  WEDGE_CHECK(std::isfinite(evaluation.mean_over_tokens), "{}: the loss is not finite",
              loaded.checkpoint.path.string());
  print(Json{{"loss", evaluation.mean_over_tokens},
             {"perplexity", std::exp(evaluation.mean_over_tokens)},
             {"tokens", evaluation.tokens}}
            .dump() +
        "\n");
  return 0;
}

}  // namespace wedge::app
