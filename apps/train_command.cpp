// wedge train: one run, or with -m the product of comma lists and the table that compares them.
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <memory>

#include "apps/commands.h"
#include "apps/compose.h"
#include "apps/config_keys.h"
#include "apps/console.h"
#include "apps/files.h"
#include "apps/format.h"
#include "apps/help.h"
#include "apps/interrupt.h"
#include "apps/run_state.h"
#include "apps/table.h"
#include "apps/threads.h"
#include "apps/trainer.h"
#include "apps/words.h"

namespace wedge::app {

namespace fs = std::filesystem;

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
      corpus = std::make_shared<data::Corpus>(
          data::load_corpus(config.data, {data::Split::train, data::Split::validation}));
    corpora.push_back(corpus);
  }
  return corpora;
}

// A run to be trained, or taken up again, or that is finished.
struct Member {
  RunFolder folder;
  Config config;
  std::optional<fs::path> state;
  bool finished = false;
  Json data = nullptr;  // of one that is taken up again: where its corpus came from when it began
};

// `folder` is the one that a user names.
std::string to_go_on(const fs::path& folder) {
  return fmt::format("to go on: wedge train resume={}", shell_word(folder.string()));
}

// Trains what is not finished. `above` is the folder that a user names to go on.
RunResult train_member(const Member& member, const data::Corpus& corpus, const fs::path& above) {
  try {
    const auto progress = make_console_progress();
    RunResult result = train(member.config, corpus, &member.folder, *progress, member.state);
    if (const fs::path metrics = member.folder.metrics(); !is_there(metrics))
      print_notice(
          fmt::format("{} was removed while the run wrote it: its lines are lost", metrics.string()));
    return result;
  } catch (const Interrupted& stopped) {
    throw Interrupted(stopped.signal(), fmt::format("{}; {}", stopped.what(), to_go_on(above)));
  } catch (const UnfinishedError& error) {
    throw Error(fmt::format("{}; once that is mended, {}", error.what(), to_go_on(above)));
  }
}

int train_one(const Member& run, const data::Corpus& corpus) {
  const RunResult result = train_member(run, corpus, run.folder.path);
  print(fmt::format("{} trained; its files are in {}\n", model_name(result.strategy),
                    run.folder.path.string()));
  return 0;
}

// A run that diverges does not keep the others from being trained; the first such error is thrown at the end.
// A signal that comes when a run has nothing left to stop ends the whole before the next one.
int train_many(const std::vector<Member>& runs, const std::vector<CorpusPointer>& corpora,
               const fs::path& above) {
  const InterruptGuard interrupt;
  std::vector<LabelledResult> results;
  std::string first_failure;
  std::size_t failures = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const RunFolder& folder = runs[i].folder;
    const std::string label = folder.path.filename().string();
    if (interrupt.signal() != 0 && !runs[i].finished)
      throw Interrupted(interrupt.signal(),
                        fmt::format("stopped by {} before run {} of {}; {}", interrupt.name(), i + 1,
                                    runs.size(), to_go_on(above)));
    print(fmt::format("run {} of {}: {}{}\n", i + 1, runs.size(), folder.path.string(),
                      runs[i].finished ? " is finished" : ""));
    if (runs[i].finished) {
      results.push_back({label, read_result(folder.results())});
      continue;
    }
    try {
      results.push_back({label, train_member(runs[i], *corpora[i], above)});
    } catch (const DivergenceError& error) {
      print(fmt::format("{}\n", error.what()));
      if (failures++ == 0) first_failure = error.what();
    }
  }
  if (!results.empty()) {
    const std::string table = comparison_table(results);
    write_file(above / "comparison.md", table);
    print("\n" + table);
  }
  if (failures == 1) throw Error(first_failure);
  WEDGE_CHECK(failures == 0, "{} of {} runs stopped early; the first: {}", failures, runs.size(),
              first_failure);
  return 0;
}

std::vector<Config> configs_of(const std::vector<Member>& runs) {
  std::vector<Config> configs;
  for (const Member& run : runs) configs.push_back(run.config);
  return configs;
}

// Everything that can be wrong is found before anything is written.
std::vector<CorpusPointer> check_runs(const std::vector<Config>& configs, const std::vector<Member>& runs) {
  use_threads(configs.front().train.threads);
  const std::vector<CorpusPointer> corpora = [&] {
    try {
      return load_corpora(configs);
    } catch (const Error& error) {
      if (runs.empty()) throw;
      throw Error(
          fmt::format("{}; if it has moved, say where it is beside resume=: data.path=... or "
                      "data.*_file=...",
                      error.what()));
    }
  }();
  for (std::size_t i = 0; i < configs.size(); ++i)
    check_trainable(configs[i], *corpora[i], !runs.empty() && runs[i].state.has_value());
  return corpora;
}

int start(const std::vector<Config>& configs, bool multirun) {
  check_run_folders(configs, multirun);
  const std::vector<CorpusPointer> corpora = check_runs(configs, {});
  const std::time_t now = std::time(nullptr);
  if (!multirun) {
    const RunFolder folder = make_single_folder(configs.front(), now);
    claim_single_folder(folder, configs.front());
    return train_one({folder, configs.front(), {}}, *corpora.front());
  }
  // All configurations at once, so that the whole can be taken up again; their number first, so that a part
  // is not taken for the whole.
  const InterruptGuard until_it_can_go_on;
  const fs::path above = make_multirun_folder(configs.front(), now);
  claim_multirun_folder(above, configs);
  std::vector<Member> runs;
  for (std::size_t i = 0; i < configs.size(); ++i) {
    runs.push_back({make_multirun_member(above, i, configs[i]), configs[i], {}});
    write_file(runs.back().folder.config(), to_json(configs[i]).dump(2) + "\n");
  }
  return train_many(runs, corpora, above);
}

// The run in `folder` as it stands, with the words of the command line, which may change what does not change
// the result.
Member find_run(const RunFolder& folder, const Arguments& words) {
  Member run{folder, {}, {}};
  const std::string origin = folder.config().string();
  const Json json = parse_json(read_file(folder.config(), kMostOfJson));
  WEDGE_CHECK(!json.is_discarded(), "{}: not JSON", origin);
  update_from_json(run.config, json, origin);
  run.data = to_json(run.config)["data"];
  run.config = compose_over(run.config, words);
  validate(run.config);
  run.finished = is_there(folder.results());
  if (run.finished) read_result(folder.results());  // what is wrong with it is said before others are trained
  return run;
}

// A state tells whether the corpus is the one that its run began with. Where corpora have moved, a run
// without a state is judged by one that began with the same.
void check_corpora(const std::vector<Member>& runs, const std::vector<CorpusPointer>& corpora, bool moved) {
  const auto state_of = [](const Member& run) -> std::optional<fs::path> {
    if (run.state || !run.finished) return run.state;
    const std::vector<fs::path> states = run.folder.states();
    return states.empty() ? std::nullopt : std::optional(states.front());
  };
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].finished) continue;
    std::optional<fs::path> witness = state_of(runs[i]);
    if (!witness && !moved) continue;
    for (std::size_t j = 0; j < runs.size() && !witness; ++j)
      if (runs[j].data == runs[i].data) witness = state_of(runs[j]);
    WEDGE_CHECK(
        witness,
        "resume: {} has no state that could tell whether this is the corpus that it was begun for; to "
        "train it on this one, begin it anew",
        runs[i].folder.path.string());
    check_corpus(*witness, fingerprint(*corpora[i]));
  }
}

void check_words_of_resume(const Arguments& words) {
  std::vector<std::string_view> allowed = names_of(KeyKind::execution);
  const std::vector<std::string_view> places = names_of(KeyKind::place);
  allowed.insert(allowed.end(), places.begin(), places.end());
  for (const std::string& word : words) {
    const std::string name = word.substr(0, word.find('='));
    WEDGE_CHECK(std::ranges::find(allowed, name) != allowed.end(),
                "resume: the configuration is that of the run; beside it only {} can be given, got {}",
                fmt::join(allowed, ", "), word);
  }
}

// `path`: a run's folder, a state in it, or a multirun's folder.
int resume(const fs::path& path, const Arguments& words) {
  check_words_of_resume(words);
  std::error_code ignored;
  WEDGE_CHECK(fs::exists(path, ignored), "resume: {} does not exist", path.string());
  const bool is_file = !fs::is_directory(path, ignored);
  WEDGE_CHECK(!is_file || RunFolder::is_state(path),
              "resume: expected a run's folder or a state_STEP.safetensors in it, got {}", path.string());
  const RunFolder folder{is_file ? fs::absolute(path).parent_path() : path};

  std::vector<Member> runs;
  const bool single = fs::exists(folder.config(), ignored);
  if (single)
    runs.push_back(find_run(folder, words));
  else
    for (const RunFolder& member : find_members(folder.path)) runs.push_back(find_run(member, words));
  WEDGE_CHECK(!runs.empty(), "resume: {} holds no config.json and no runs: nothing to go on with",
              folder.path.string());

  bool all_finished = true;
  for (Member& run : runs) {
    if (run.finished) continue;
    all_finished = false;
    if (is_file)
      check_state(path), run.state = path;
    else
      run.state = newest_state(run.folder);
  }
  if (all_finished && (single || fs::exists(folder.path / "comparison.md"))) {
    print(fmt::format("{} is finished: nothing to do\n", folder.path.string()));
    return 0;
  }
  const std::vector<CorpusPointer> corpora = check_runs(configs_of(runs), runs);
  const bool moved =
      std::ranges::any_of(runs, [](const Member& run) { return to_json(run.config)["data"] != run.data; });
  check_corpora(runs, corpora, moved);
  for (const Member& run : runs)
    if (!run.finished && !run.state && (single || is_there(run.folder.metrics())))
      print(fmt::format("{} has no state to go on from yet: it starts afresh\n", run.folder.path.string()));
  return single ? train_one(runs.front(), *corpora.front()) : train_many(runs, corpora, folder.path);
}

}  // namespace

std::string train_help() {
  return R"(usage: wedge train [-m] [group=preset | group.key=value]...
       wedge train resume=FOLDER

Trains a language model and writes config.json, metrics.jsonl, results.json, best.safetensors and
last.safetensors to runs/single/DATE/TIME_STRATEGY, or to experiment.run_dir.

With -m (--multirun) a word may give several values, with commas between them: every combination is
trained in runs/multirun/DATE/TIME/N_STRATEGY, and a table compares them on the screen and in
comparison.md beside them.

After every epoch, every train.checkpoint_every steps, and when Ctrl-C (SIGINT) or SIGTERM stops it, a run
writes state_STEP.safetensors, of which the newest two stay. resume=FOLDER goes on from the newest of a
run, or with every unfinished run of a multirun, and ends with the same bits as if nothing had happened;
resume=FOLDER/state_STEP.safetensors goes on from that one. The configuration is the run's; only
these keys can be given anew (other threads or another device: no longer the same bits):
  )" + fmt::format("{}", fmt::join(names_of(KeyKind::execution), "\n  ")) +
         R"(
and, where the texts have moved,
  )" + fmt::format("{}", fmt::join(names_of(KeyKind::place), "\n  ")) +
         R"(

Presets apply first, then keys from left to right; the last one wins. A value is a JSON scalar or list,
a bare word is a string, null switches off.

presets:
)" + describe_presets() +
         R"(
keys and their defaults:
)" + describe_keys(keys_of(find_command("train"))) +
         R"(
metrics.jsonl has a line for each step (step, from 0; epoch, from 1; loss; learning_rate; grad_norm before
clipping; tokens_per_second) and one for each epoch (epoch, train_loss, val_loss); of a run that diverged
the last line says so (diverged_at, the step; why).

examples:
  wedge train -m model=attention,grassmann data=builtin experiment=quick
  wedge train model=grassmann model.lags=[1,2,4] train.num_epochs=3 experiment.run_dir=runs/lags
  wedge train -m model=attention,grassmann seed=1,2,3 data=text data.path=my_texts
)";
}

int run_train(const Words& words) {
  const bool multirun = words.has("-m") || words.has("--multirun");
  const auto from = words.text("resume");
  if (!from) return start(compose(words.keys(), multirun), multirun);
  WEDGE_CHECK(!multirun, "resume: no -m; the folder of a multirun is known as one");
  return resume(*from, words.keys());
}

}  // namespace wedge::app
