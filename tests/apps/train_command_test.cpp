// Whole runs of the real command on a tiny corpus.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <pty.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "apps/config.h"
#include "tests/apps/command_runner.h"
#include "tests/apps/tiny_corpus.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::EndsWith;
using Catch::Matchers::StartsWith;
using wedge::app::Json;
namespace fs = std::filesystem;

namespace {

struct Workplace {
  Workplace() {
    fs::create_directories(cwd);
    write_tiny_corpus(cwd / "tokens.safetensors");
  }

  Outcome train(const std::vector<std::string>& words) const { return run_wedge(cwd, tiny_train(words)); }

  TempDir temp;
  fs::path cwd = temp / "cwd";
};

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

// The only entry of a folder.
fs::path only_entry(const fs::path& folder) {
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(folder)) entries.push_back(entry.path());
  REQUIRE(entries.size() == 1);
  return entries.front();
}

}  // namespace

TEST_CASE("train command: a single run's folder", "[apps][command]") {
  const Workplace here;
  const Outcome outcome = here.train({"model=grassmann"});
  CHECK(outcome.err.empty());
  REQUIRE(outcome.status == 0);
  CHECK_THAT(outcome.out,
             ContainsSubstring("GrassmannLM") && ContainsSubstring("epoch 2/2") && ContainsSubstring("ppl"));
  CHECK(outcome.out.find('\r') == std::string::npos);  // plain lines when not on a terminal
  const fs::path run = only_entry(only_entry(here.cwd / "runs/single"));
  CHECK(run.filename().string().ends_with("_grassmann"));
  std::set<std::string> files;
  for (const auto& entry : fs::directory_iterator(run)) files.insert(entry.path().filename());
  CHECK(files == std::set<std::string>{"best.safetensors", "config.json", "last.safetensors", "metrics.jsonl",
                                       "results.json", "state_14.safetensors", "state_28.safetensors"});
}

TEST_CASE("train command: on a terminal, one line that is rewritten", "[apps][command]") {
  const Workplace here;
  std::vector<std::string> words =
      tiny_run(here.cwd / "tokens.safetensors", {"experiment.run_dir=" + (here.cwd / "run").string()});
  words.insert(words.begin(), {WEDGE_COMMAND, "train"});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int terminal = -1;
  winsize narrow{.ws_row = 24, .ws_col = 70, .ws_xpixel = 0, .ws_ypixel = 0};
  const pid_t child = forkpty(&terminal, nullptr, nullptr, &narrow);
  REQUIRE(child >= 0);
  if (child == 0) {
    execv(argv[0], argv.data());
    _exit(127);
  }
  std::string out;
  char buffer[4096];
  for (ssize_t n; (n = read(terminal, buffer, sizeof buffer)) > 0;)
    out.append(buffer, static_cast<std::size_t>(n));
  close(terminal);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK_THAT(
      out, ContainsSubstring("\repoch 2/2  step 28/28  loss ") && ContainsSubstring(" tokens/s  00:00 left"));
  // A line as wide as the terminal would be left behind by the next one.
  for (std::size_t at = out.find('\r'); (at = out.find("\repoch", at)) != std::string::npos; ++at)
    CHECK(out.find("\x1b[K", at) - at - 1 < narrow.ws_col);
  CHECK_THAT(out, ContainsSubstring(
                      "\r\x1b[Kepoch 2/2  train loss "));  // the line of an epoch replaces it and stays
}

TEST_CASE("train command: a multirun ends with the table", "[apps][command]") {
  const Workplace here;
  const Outcome outcome = here.train({"-m", "model=attention,grassmann", "experiment.run_dir=out/here"});
  CHECK(outcome.err.empty());
  REQUIRE(outcome.status == 0);
  const std::string table = slurp(here.cwd / "out/here/comparison.md");
  CHECK(outcome.out.ends_with(table));
  CHECK_THAT(table,
             ContainsSubstring("| Model         | Params (M) | Best Val Loss | Best Val PPL | tokens/s |"));
  CHECK(table.find("TransformerLM") < table.find("GrassmannLM"));
  for (const char* name : {"0_attention", "1_grassmann"}) {
    const Json results = Json::parse(slurp(here.cwd / "out/here" / name / "results.json"));
    CHECK(results["config"]["experiment"]["run_dir"] == "out/here");
    CHECK_THAT(table, ContainsSubstring(fmt::format("{:.4f}", results["best_val_loss"].get<double>())));
  }
  const Outcome again = run_wedge(here.cwd, {"summarize", "--root", "out", "--out", "again.md"});
  CHECK(again.status == 0);
  CHECK(slurp(here.cwd / "again.md") == table);

  const auto before = snapshot(here.cwd);
  const Outcome refused = here.train({"-m", "model=attention,grassmann", "experiment.run_dir=out/here"});
  CHECK(refused.status == 2);
  CHECK(snapshot(here.cwd) == before);

  REQUIRE(here.train({"-m", "seed=1,2", "train.max_steps=1"}).status == 0);
  const fs::path above = only_entry(only_entry(here.cwd / "runs/multirun"));
  CHECK(fs::exists(above / "0_attention/last.safetensors"));
  CHECK(fs::exists(above / "1_attention/last.safetensors"));
  CHECK_THAT(slurp(above / "comparison.md"), ContainsSubstring("mean of 2 seeds"));
}

TEST_CASE("train command: a run that diverges is one line and status 2", "[apps][command]") {
  const Workplace here;
  const Outcome outcome = here.train({"-m", "train.learning_rate=1e30,0.01", "experiment.run_dir=out"});
  CHECK(outcome.status == 2);
  CHECK(is_one_error_line(outcome.err));
  // Named by its folder, when it happens and in the end.
  CHECK_THAT(outcome.err, ContainsSubstring("out/0_attention: stopped at step "));
  const std::size_t told = outcome.out.find("out/0_attention: stopped at step ");
  REQUIRE(told != std::string::npos);
  CHECK(told < outcome.out.find("run 2 of 2"));
  // The other run of the product was trained all the same.
  CHECK(fs::exists(here.cwd / "out/1_attention/results.json"));
  CHECK_THAT(slurp(here.cwd / "out/comparison.md"), ContainsSubstring("TransformerLM"));
  // Who looks later is told too.
  const Outcome summary = run_wedge(here.cwd, {"summarize", "out"});
  CHECK(summary.status == 0);
  CHECK(summary.out == slurp(here.cwd / "out/comparison.md"));
  CHECK_THAT(summary.err, StartsWith("wedge: 0_attention diverged at step ") && EndsWith("\n"));
  CHECK(std::ranges::count(summary.err, '\n') == 1);
}

TEST_CASE("train command: metrics that were removed meanwhile are missed", "[apps][command]") {
  const Workplace here;
  const Outcome outcome = run_shell(
      here.cwd,
      R"("$wedge" train )" +
          joined(tiny_run("tokens.safetensors", {"experiment.run_dir=run", "train.num_epochs=100"})) +
          R"( & while [ ! -e run/last.safetensors ] && kill -0 $!; do sleep 0.01; done
              rm run/metrics.jsonl; wait $!)");
  CHECK(outcome.status == 0);
  CHECK(outcome.err == "wedge: run/metrics.jsonl was removed while the run wrote it: its lines are lost\n");
}

TEST_CASE("eval command: agrees with the validation loss", "[apps][command]") {
  const Workplace here;
  REQUIRE(here.train({"experiment.run_dir=run", "train.num_epochs=3"}).status == 0);
  const Json results = Json::parse(slurp(here.cwd / "run/results.json"));
  const auto eval = [&](const std::vector<std::string>& words, const std::string& checkpoint = "run") {
    std::vector<std::string> all = {"eval", "checkpoint=" + checkpoint};
    all.insert(all.end(), words.begin(), words.end());
    const Outcome outcome = run_wedge(here.cwd, all);
    INFO(outcome.err);
    REQUIRE(outcome.status == 0);
    return Json::parse(outcome.out);
  };
  // 100 tokens are 11 blocks; in batches of 11 the mean over batches is the mean over tokens.
  const Json whole = eval({});
  CHECK(whole["tokens"] == 88);
  CHECK(whole["perplexity"].get<double>() == Approx(std::exp(whole["loss"].get<double>())));
  CHECK(eval({"train.batch_size=1"})["loss"].get<double>() ==
        Approx(whole["loss"].get<double>()).epsilon(1e-5));
  CHECK(eval({"train.batch_size=11"})["loss"].get<double>() ==
        Approx(whole["loss"].get<double>()).epsilon(1e-5));
  // Validation weighs the last, smaller batch as the others: 4, 4 and 3 blocks.
  CHECK(whole["loss"].get<double>() == Approx(results["best_val_loss"].get<double>()).epsilon(0.05));

  CHECK(eval({}, "run/best.safetensors") == whole);
  CHECK(eval({"data.split=test"})["loss"] != whole["loss"]);
  CHECK(eval({"data.split=train"})["tokens"] == 440);
  CHECK(eval({"data.max_context_len=4"})["tokens"] == 80);

  const auto fails = [&](const std::vector<std::string>& words, const std::string& part) {
    std::vector<std::string> all = {"eval", "checkpoint=run"};
    all.insert(all.end(), words.begin(), words.end());
    const Outcome outcome = run_wedge(here.cwd, all);
    CHECK(outcome.status == 2);
    CHECK(is_one_error_line(outcome.err));
    CHECK_THAT(outcome.err, ContainsSubstring(part));
  };
  fails({"model.num_layers=3"}, "cannot be changed");
  fails({"data.max_context_len=9"}, "must be at most 8");
  fails({"data.max_context_len=8", "data=builtin"}, "vocabulary");
  fails({"data.path=none"}, "none");
}

TEST_CASE("eval command: the same loss as training when batches are equal", "[apps][command]") {
  const Workplace here;
  // 11 validation blocks in one batch.
  REQUIRE(here.train({"experiment.run_dir=run", "train.batch_size=11"}).status == 0);
  const Json results = Json::parse(slurp(here.cwd / "run/results.json"));
  const Outcome outcome = run_wedge(here.cwd, {"eval", "checkpoint=run"});
  REQUIRE(outcome.status == 0);
  CHECK(Json::parse(outcome.out)["loss"].get<double>() ==
        Approx(results["best_val_loss"].get<double>()).epsilon(1e-6));
}

TEST_CASE("eval and generate commands: what is no checkpoint is called by its name", "[apps][command]") {
  const Workplace here;
  REQUIRE(here.train({"-m", "experiment.run_dir=many", "seed=1,2", "train.max_steps=1"}).status == 0);
  const auto fails = [&](const std::string& path, const std::string& part) {
    for (const std::vector<std::string>& command :
         {std::vector<std::string>{"eval"}, std::vector<std::string>{"generate", "prompt=1"}}) {
      std::vector<std::string> words = command;
      words.push_back("checkpoint=" + path);
      const Outcome outcome = run_wedge(here.cwd, words);
      CHECK(outcome.status == 2);
      CHECK(is_one_error_line(outcome.err));
      CHECK_THAT(outcome.err, ContainsSubstring(part));
    }
  };
  fails("many", "expected one of them: many/0_attention, many/1_attention");
  fails("many/0_attention/state_1.safetensors",
        "expected a checkpoint, such as many/0_attention/best.safetensors");
  fs::remove(here.cwd / "many/0_attention/best.safetensors");
  fails("many/0_attention", "if it was stopped, to go on with it: wedge train resume=many/0_attention;");
  fs::copy(here.cwd / "many/0_attention", here.cwd / "its run");
  fails("its run", "wedge train resume='its run'; if its loss was no longer finite, begin it anew");
  fs::create_directories(here.cwd / "empty");
  fails("empty", "empty/best.safetensors");
}

TEST_CASE("train command: what no weights can be taken from is called by its name", "[apps][command]") {
  const Workplace here;
  REQUIRE(here.train({"-m", "experiment.run_dir=many", "seed=1,2", "train.max_steps=1"}).status == 0);
  std::string weights = slurp(here.cwd / "many/1_attention/best.safetensors");
  weights.replace(weights.size() - 4, 4, std::string("\0\0\xc0\x7f", 4));  // the last number is none now
  spill(here.cwd / "nan.safetensors", weights);
  fs::remove(here.cwd / "many/0_attention/best.safetensors");
  const auto fails = [&](const std::string& path, const std::string& part) {
    const Outcome outcome = here.train({"experiment.run_dir=new", "train.init_from=" + path});
    CHECK(outcome.status == 2);
    CHECK(is_one_error_line(outcome.err));
    CHECK_THAT(outcome.err, ContainsSubstring(part));
    CHECK_FALSE(fs::exists(here.cwd / "new"));
  };
  fails("many", "expected one of them: many/0_attention, many/1_attention");
  fails("many/0_attention", "has not finished its first epoch");
  fails("many/1_attention/state_1.safetensors",
        "expected a checkpoint, such as many/1_attention/best.safetensors");
  fails("nan.safetensors", "nan.safetensors: not all numbers of ");
}

TEST_CASE("tokenize command: lines in, ids out", "[apps][command]") {
  const Workplace here;
  spill(here.cwd / "vocab.txt", "[UNK]\na\nb\n##b\n");
  const auto tokenize = [&](const std::string& text) {
    const Outcome outcome =
        run_shell(here.cwd, "printf '" + text + "' | \"$wedge\" tokenize vocab=vocab.txt");
    CHECK(outcome.err.empty());
    CHECK(outcome.status == 0);
    return outcome.out;
  };
  CHECK(tokenize("a b\\nab\\n") == "1 2\n1 3\n");
  CHECK(tokenize("a\\n\\nz\\n") == "1\n\n0\n");
  CHECK(tokenize("a\\r\\nb") == "1\n2\n");                   // \r is whitespace; the last line needs no end
  CHECK(tokenize("a\\rb\\342\\200\\250a\\n") == "1 2 1\n");  // neither \r nor U+2028 ends a line
  CHECK(tokenize("") == "");

  // A line longer than what is read at once.
  const Outcome outcome = run_shell(
      here.cwd,
      R"(head -c 3000000 /dev/zero | tr '\0' ' ' > long; (cat long; echo a; echo b) | "$wedge" tokenize vocab=vocab.txt)");
  CHECK(outcome.out == "1\n2\n");
}

TEST_CASE("help: every command has one, and it lists every key", "[apps][command]") {
  const Workplace here;
  const Outcome general = run_wedge(here.cwd, {"--help"});
  CHECK(general.status == 0);
  for (const char* command : {"train", "eval", "summarize", "tokenize"}) {
    CHECK_THAT(general.out, ContainsSubstring(command));
    const Outcome help = run_wedge(here.cwd, {command, "--help"});
    CHECK(help.status == 0);
    CHECK_THAT(help.out,
               ContainsSubstring(std::string("usage: wedge ") + command) && ContainsSubstring("example"));
    CHECK(run_wedge(here.cwd, {"help", command}).out == help.out);
  }
  const std::string train = run_wedge(here.cwd, {"train", "--help"}).out;
  CHECK_THAT(train, ContainsSubstring("train.learning_rate") && ContainsSubstring("0.001") &&
                        ContainsSubstring("experiment=paper_12l_256"));
  const Outcome version = run_wedge(here.cwd, {"--version"});
  CHECK(version.status == 0);
  CHECK(version.out.starts_with("wedge "));
  CHECK(snapshot(here.cwd).size() == 1);  // nothing was made
}
