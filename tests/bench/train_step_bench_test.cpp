// The command line of train_step_bench, through the program itself.
#include <fmt/format.h>

#include "tests/apps/command_runner.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;

namespace {

Outcome run(const std::string& words, const std::string& environment = "") {
  const TempDir folder;
  std::filesystem::create_directory(folder / "cwd");
  return run_shell(folder / "cwd", environment + shell_quote(WEDGE_TRAIN_STEP_BENCH) + " " + words);
}

void fails(const std::string& words, const std::string& message, const std::string& environment = "") {
  INFO(words);
  const Outcome outcome = run(words, environment);
  CHECK(outcome.status == 2);
  CHECK(outcome.out.empty());
  CHECK(outcome.err == "train_step_bench: error: " + message + "\n");
}

}  // namespace

TEST_CASE("train_step_bench explains itself", "[bench]") {
  for (const char* word : {"help", "--help", "-h", "steps=x --help"}) {
    const Outcome outcome = run(word);
    CHECK(outcome.status == 0);
    CHECK(outcome.err.empty());
    CHECK_THAT(outcome.out, ContainsSubstring("\n  model=attention,grassmann   either or both\n"));
    CHECK_THAT(outcome.out, ContainsSubstring("\n  peak_tensor_mib "));
  }
}

TEST_CASE("train_step_bench says which word is wrong, and what it expected", "[bench]") {
  for (const char* value : {"x", "1.5", "0", "", " 1", "1e3", "99999999999999999999"})
    fails(fmt::format("steps={}", shell_quote(value)),
          fmt::format("steps: expected an integer from 1 to 1048576, got '{}'", value));
  fails("batch=-3", "batch: expected an integer from 1 to 1048576, got '-3'");
  fails("length=128x", "length: expected an integer from 1 to 1048576, got '128x'");
  fails("layers=0", "layers: expected an integer from 1 to 4096, got '0'");
  fails("vocab=many", "vocab: expected an integer from 1 to 1048576, got 'many'");
  fails("threads=0", "threads: expected an integer from 1 to 1024, got '0'");
  for (const char* value : {"1", "-0.1", "nan", "half"})
    fails(fmt::format("dropout={}", value),
          fmt::format("dropout: expected a number from 0 to less than 1, got '{}'", value));
  fails("model=attention,rnn", "model: expected attention or grassmann, got 'rnn'");
  fails("model=", "model: expected attention or grassmann, got ''");
  fails("device=gpu", "device: expected cpu or cuda, got 'gpu'");
  fails("amp=maybe", "amp: expected true or false, got 'maybe'");
  fails("amp=true", "amp: expected false on this CPU, got 'true'", "WEDGE_AMX=0 ");
  fails("side=false", "side: expected true on this CPU, got 'false'");
  fails("paced=true,false", "paced: expected one of true and false, got 'true,false'");
  fails("paced=true", "paced=true: expected one model, one amp and one side");
  const std::string keys =
      "model, device, amp, steps, batch, length, layers, threads, vocab, dropout, side, paced";
  for (const char* word : {"stps=3", "steps", "--steps=3"})
    fails(word, fmt::format("unknown argument '{}': expected KEY=VALUE, KEY one of {}; --help explains them",
                            word, keys));
}

TEST_CASE("train_step_bench prints a line for each model, or a step's seconds for each line", "[bench]") {
  const std::string small = "steps=1 batch=1 length=8 layers=1 vocab=16 threads=1";
  Outcome outcome = run(small);
  INFO(outcome.err);
  CHECK(outcome.status == 0);
  std::istringstream lines(outcome.out);
  std::vector<std::string> models;
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::ordered_json::parse(line);
    models.push_back(json.at("model"));
    CHECK(json.at("tokens_per_second") > 0);
    CHECK(json.at("peak_tensor_mib") > 0);
    CHECK(json.at("batch") == 1);
  }
  CHECK(models == std::vector<std::string>{"attention", "grassmann"});

  outcome = run(small + " model=grassmann paced=true < /dev/null");
  CHECK(outcome.status == 0);
  CHECK(outcome.out.empty());
}
