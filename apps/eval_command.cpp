// wedge eval: loss and perplexity of a checkpoint on a split.
#include <algorithm>
#include <cmath>

#include "apps/checkpoint_metadata.h"
#include "apps/commands.h"
#include "apps/compose.h"
#include "apps/console.h"
#include "apps/corpus_source.h"
#include "apps/device.h"
#include "apps/evaluate.h"
#include "apps/help.h"
#include "apps/threads.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

constexpr std::string_view kCheckpoint = "checkpoint=", kSplit = "data.split=";

data::Split parse_split(const std::string& name) {
  for (const data::Split split : {data::Split::validation, data::Split::test})
    if (name == data::name_of(split)) return split;
  throw Error(fmt::format("data.split: must be validation or test, got {}", name));
}

// What may be changed of a checkpoint's configuration: where data comes from and how it is run.
bool may_override(const std::string& name) {
  return name == "data" || name.starts_with("data.") || name == "train.batch_size" ||
         name == "train.threads" || name == "train.device" || name == "train.amp";
}

// The checkpoint's configuration; without its files where another source is asked for, whose files they are
// not.
Config base_of(Config config, const Arguments& overrides) {
  const bool other_source = std::any_of(overrides.begin(), overrides.end(),
                                        [](const std::string& word) { return word.starts_with("data="); });
  if (!other_source) return config;
  for (auto* file : {&config.data.path, &config.data.train_file, &config.data.validation_file,
                     &config.data.test_file, &config.data.vocab_file})
    file->reset();
  return config;
}

}  // namespace

std::string eval_help() {
  return "usage: wedge eval checkpoint=FILE_OR_RUN_DIR [data.split=validation|test] [data overrides]\n"
         "\n"
         "Prints one JSON object: loss (mean cross-entropy over tokens), perplexity (exp of it; null where "
         "that\n"
         "is more than a number can hold) and tokens.\n"
         "The checkpoint itself holds the model, the data configuration and the vocabulary.\n"
         "\n"
         "  checkpoint=FILE_OR_RUN_DIR     a .safetensors file of wedge train; a run folder means its\n"
         "                                 best.safetensors\n"
         "  data.split=validation|test     (default: validation)\n"
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
  const data::Split wanted = parse_split(split);
  const Checkpoint checkpoint = read_checkpoint(path);
  const Config config = compose_over(base_of(checkpoint.config, overrides), overrides);
  for (const std::string& word : overrides) {
    const std::string name = word.substr(0, word.find('='));
    WEDGE_CHECK(may_override(name) && (name != "data.vocab_file" || checkpoint.vocabulary.empty()),
                "eval: {} comes with the checkpoint and cannot be changed", name);
  }
  validate(config);
  WEDGE_CHECK(config.data.max_context_len <= checkpoint.config.data.max_context_len,
              "data.max_context_len: must be at most {}, the checkpoint's, got {}",
              checkpoint.config.data.max_context_len, config.data.max_context_len);

  data::Corpus corpus =
      load_corpus(config, {wanted}, checkpoint.vocabulary.empty() ? nullptr : &checkpoint.vocabulary);
  WEDGE_CHECK(corpus.vocab_size == checkpoint.vocab_size, "{}: its vocabulary has {} entries, the data's {}",
              checkpoint.path.string(), checkpoint.vocab_size, corpus.vocab_size);
  const data::Blocks blocks(std::move(wanted == data::Split::test ? corpus.test : corpus.validation),
                            config.data.max_context_len, data::name_of(wanted));
  use_threads(config.train.threads);
  const Bf16ProductsGuard reduced(config.train.amp);
  const auto model = load_model(checkpoint, resolve_device(config.train.device));
  const Evaluation evaluation = evaluate(*model, blocks, config.train.batch_size);
  WEDGE_CHECK(std::isfinite(evaluation.mean_over_tokens), "{}: the loss is not finite",
              checkpoint.path.string());
  print(Json{{"loss", evaluation.mean_over_tokens},
             {"perplexity", std::exp(evaluation.mean_over_tokens)},
             {"tokens", evaluation.tokens}}
            .dump() +
        "\n");
  return 0;
}

}  // namespace wedge::app
