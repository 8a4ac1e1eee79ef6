// wedge eval: loss and perplexity of a checkpoint on a split.
#include <cmath>

#include "apps/checkpoint_data.h"
#include "apps/commands.h"
#include "apps/console.h"
#include "apps/evaluate.h"
#include "apps/help.h"
#include "tensor/check.h"

namespace wedge::app {

std::string eval_help() {
  return R"(usage: wedge eval checkpoint=FILE_OR_RUN_DIR [data.split=SPLIT] [data overrides]

Prints one JSON object: loss (mean cross-entropy over tokens), perplexity (exp of it; null where that
is more than a number can hold) and tokens. The losses of a run (best_val_loss in results.json) are means
over batches instead, as in the founding experiment: where the last batch is smaller, they differ a little.
The checkpoint itself holds the model, the data configuration and the vocabulary.

  checkpoint=FILE_OR_RUN_DIR     a .safetensors file of wedge train; a run folder means its
                                 best.safetensors
  data.split=SPLIT               train, validation or test (default: validation)

data=PRESET and these keys replace what the checkpoint says; shown are the defaults of wedge train:
)" + describe_keys(keys_of(find_command("eval"))) +
         R"(
examples:
  wedge eval checkpoint=runs/single/DATE/TIME_grassmann
  wedge eval checkpoint=last.safetensors data.split=test data.path=my_texts
)";
}

int run_eval(const Words& words) {
  const CheckpointData loaded = load_checkpoint_data(words);
  const Bf16ProductsGuard reduced(loaded.config.train.amp, loaded.config.train.amp_on_cpu);
  const Evaluation evaluation = evaluate(*loaded.model, loaded.blocks, loaded.config.train.batch_size);
  WEDGE_CHECK(std::isfinite(evaluation.mean_over_tokens), "{}: the loss is not finite",
              loaded.checkpoint.file.path().string());
  print(Json{{"loss", evaluation.mean_over_tokens},
             {"perplexity", std::exp(evaluation.mean_over_tokens)},
             {"tokens", evaluation.tokens}}
            .dump() +
        "\n");
  return 0;
}

}  // namespace wedge::app
