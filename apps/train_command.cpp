// wedge train: one run, or with -m the product of comma lists and the table that compares them.
#include <algorithm>
#include <map>
#include <memory>

#include "apps/commands.h"
#include "apps/compose.h"
#include "apps/console.h"
#include "apps/corpus_source.h"
#include "apps/files.h"
#include "apps/help.h"
#include "apps/table.h"
#include "apps/threads.h"
#include "apps/trainer.h"

namespace wedge::app {

namespace {

using CorpusPointer = std::shared_ptr<const data::Corpus>;

// The corpus of each run; runs with equal sources share one.
std::vector<CorpusPointer> load_corpora(const std::vector<Config>& configs) {
  std::map<std::string, CorpusPointer> loaded;
  std::vector<CorpusPointer> corpora;
  for (const Config& config : configs) {
    Json source = to_json(config)["data"];
    source.erase("max_context_len");
    CorpusPointer& corpus = loaded[source.dump()];
    if (!corpus)
      corpus =
          std::make_shared<data::Corpus>(load_corpus(config, {data::Split::train, data::Split::validation}));
    corpora.push_back(corpus);
  }
  return corpora;
}

int train_one(const Config& config, const data::Corpus& corpus) {
  const RunFolder folder = make_single_folder(config, std::time(nullptr));
  const auto progress = make_console_progress();
  const RunResult result = train(config, corpus, &folder, *progress);
  print(fmt::format("{} trained; its files are in {}\n", model_name(result.strategy), folder.path.string()));
  return 0;
}

// A run that diverges does not keep the others from being trained; the first such error is thrown at the end.
int train_many(const std::vector<Config>& configs, const std::vector<CorpusPointer>& corpora) {
  const std::filesystem::path above = make_multirun_folder(configs.front(), std::time(nullptr));
  std::vector<LabelledResult> results;
  std::string first_failure;
  std::size_t failures = 0;
  for (std::size_t i = 0; i < configs.size(); ++i) {
    const RunFolder folder = make_multirun_member(above, i, configs[i]);
    print(fmt::format("run {} of {}: {}\n", i + 1, configs.size(), folder.path.string()));
    try {
      const auto progress = make_console_progress();
      results.push_back(
          {folder.path.filename().string(), train(configs[i], *corpora[i], &folder, *progress)});
    } catch (const DivergenceError& error) {
      if (failures++ == 0) first_failure = error.what();
    }
  }
  if (!results.empty()) {
    const std::string table = comparison_table(results);
    write_file(above / "comparison.md", table);
    print("\n" + table);
  }
  if (failures == 1) throw Error(first_failure);
  WEDGE_CHECK(failures == 0, "{} of {} runs stopped early; the first: {}", failures, configs.size(),
              first_failure);
  return 0;
}

}  // namespace

std::string train_help() {
  return "usage: wedge train [-m] [group=preset | group.key=value]...\n"
         "\n"
         "Trains a language model and writes config.json, metrics.jsonl, results.json, best.safetensors and\n"
         "last.safetensors to runs/single/DATE/TIME_STRATEGY, or to experiment.run_dir.\n"
         "\n"
         "With -m (--multirun) a word may give several values, with commas between them: every combination "
         "is\n"
         "trained in runs/multirun/DATE/TIME/N_STRATEGY, and a table compares them on the screen and in\n"
         "comparison.md beside them.\n"
         "\n"
         "Presets apply first, then keys from left to right; the last one wins. A value is a JSON scalar or "
         "list,\n"
         "a bare word is a string, null switches off.\n"
         "\n"
         "presets:\n" +
         describe_presets() +
         "\n"
         "keys and their defaults:\n" +
         describe_keys({"model", "data", "train", "experiment", "seed"}) +
         "\n"
         "metrics.jsonl has a line for each step (step, from 0; epoch, from 1; loss; learning_rate; "
         "grad_norm before\n"
         "clipping; tokens_per_second) and one for each epoch (epoch, train_loss, val_loss).\n"
         "\n"
         "examples:\n"
         "  wedge train -m model=attention,grassmann data=builtin experiment=quick\n"
         "  wedge train model=grassmann model.lags=[1,2,4] train.num_epochs=3 experiment.run_dir=runs/lags\n"
         "  wedge train -m model=attention,grassmann seed=1,2,3 data=text data.path=my_texts\n";
}

int run_train(const Arguments& arguments) {
  bool multirun = false;
  Arguments assignments;
  for (const std::string& word : arguments) {
    if (word == "-m" || word == "--multirun") {
      multirun = true;
      continue;
    }
    WEDGE_CHECK(!word.starts_with("-"), "train: unknown option '{}'; the nearest is -m", word);
    assignments.push_back(word);
  }

  // Everything that can be wrong is found before anything is written.
  const std::vector<Config> configs = compose(assignments, multirun);
  check_run_folders(configs, multirun);
  use_threads(configs.front().train.threads);
  const std::vector<CorpusPointer> corpora = load_corpora(configs);
  for (std::size_t i = 0; i < configs.size(); ++i) check_trainable(configs[i], *corpora[i]);
  return multirun ? train_many(configs, corpora) : train_one(configs.front(), *corpora.front());
}

}  // namespace wedge::app
