// Stopping a run at any step and going on: in this process, where the step can be chosen.
#include "apps/run_state.h"

#include <csignal>

#include "apps/compose.h"
#include "apps/interrupt.h"
#include "apps/trainer.h"
#include "tests/apps/command_runner.h"
#include "tests/apps/tiny_corpus.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::app;
using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

// Asks for the end of the run after some step, as a user would.
class StopAfter : public ProgressSink {
 public:
  explicit StopAfter(std::int64_t step) : step_(step) {}
  void step(const StepReport& report) override {
    if (report.step + 1 == step_) std::raise(SIGTERM);
  }

 private:
  std::int64_t step_;
};

struct Bench {
  explicit Bench(const std::vector<std::string>& words) {
    write_tiny_corpus(temp / "tokens.safetensors");
    config = compose(tiny_run(temp / "tokens.safetensors", words), false).front();
    corpus = data::load_corpus(config.data, {data::Split::train, data::Split::validation});
  }

  RunFolder folder(const std::string& name) const {
    fs::create_directories(temp / name);
    return {temp / name};
  }

  // Trains into temp/NAME until after `step`; from the newest state, if there is one.
  void run_until(const std::string& name, std::int64_t step) const {
    const RunFolder here = folder(name);
    StopAfter stop(step);
    try {
      train(config, corpus, &here, stop, newest_state(here));
    } catch (const Interrupted& interrupted) {
      CHECK(interrupted.signal() == SIGTERM);
      CHECK_THAT(interrupted.what(),
                 ContainsSubstring("stopped by SIGTERM after step " + std::to_string(step)));
    }
  }
  void run(const std::string& name) const { run_until(name, -1); }

  TempDir temp;
  wedge::app::Config config;
  data::Corpus corpus;
};

void check_same_end(const RunFolder& a, const RunFolder& b) {
  CHECK(slurp(a.best()) == slurp(b.best()));
  CHECK(slurp(a.last()) == slurp(b.last()));
  CHECK(without_times(a.metrics()) == without_times(b.metrics()));
  Json x = Json::parse(slurp(a.results())), y = Json::parse(slurp(b.results()));
  x.erase("tokens_per_second");
  y.erase("tokens_per_second");
  CHECK(x == y);
}

std::vector<std::string> names_of(const std::vector<fs::path>& paths) {
  std::vector<std::string> names;
  for (const fs::path& path : paths) names.push_back(path.filename().string());
  return names;
}

}  // namespace

// 14 batches an epoch: 5 steps of up to 3, the last of them with 2.
TEST_CASE("run state: stopped after any step and taken up, a run ends with the same bits", "[apps][resume]") {
  const std::string model = GENERATE("attention", "grassmann");
  const Bench bench(
      {"model=" + model, "train.accumulate=3", "train.dropout_rate=0.1", "train.warmup_steps=3"});
  bench.run("whole");
  for (std::int64_t step = 1; step <= 10; ++step) {
    CAPTURE(model, step);
    const std::string name = "stopped_" + std::to_string(step);
    bench.run_until(name, step);
    CHECK(fs::exists(bench.folder(name).state(step)));
    CHECK_FALSE(fs::exists(bench.folder(name).results()));
    bench.run(name);
    check_same_end(bench.folder("whole"), bench.folder(name));
  }
}

TEST_CASE("run state: stopped again and again, with every setting that follows the step", "[apps][resume]") {
  const Bench bench({"train.max_steps=21", "train.shuffle=true", "train.grad_clip=0.1", "model=grassmann"});
  bench.run("whole");
  for (const std::int64_t step : {2, 3, 14, 15, 20}) bench.run_until("stopped", step);
  bench.run("stopped");
  check_same_end(bench.folder("whole"), bench.folder("stopped"));
}

TEST_CASE("run state: one that another process has gone on from and removed gives way to the newest",
          "[apps][resume]") {
  const Bench bench({"model=grassmann"});
  bench.run("whole");
  bench.run_until("run", 3);
  const RunFolder here = bench.folder("run");
  const auto chosen = newest_state(here);
  bench.run_until("run", 5);
  bench.run_until("run", 8);
  REQUIRE_FALSE(fs::exists(*chosen));
  StopAfter never(-1);
  train(bench.config, bench.corpus, &here, never, chosen);
  check_same_end(bench.folder("whole"), here);
  fs::remove(here.results());
  for (const fs::path& state : here.states()) fs::remove(state);
  CHECK_THROWS_WITH(train(bench.config, bench.corpus, &here, never, chosen),
                    ContainsSubstring("no state_STEP.safetensors is beside it"));
}

TEST_CASE("run state: one under a name that is not among the folder's states is gone on from all the same",
          "[apps][resume]") {
  const Bench bench({});
  bench.run("whole");
  bench.run_until("run", 3);
  const RunFolder here = bench.folder("run");
  fs::rename(here.state(3), here.path / "kept.safetensors");
  ProgressSink quiet;
  train(bench.config, bench.corpus, &here, quiet, here.path / "kept.safetensors");
  check_same_end(bench.folder("whole"), here);
}

TEST_CASE("run state: one for each interval and epoch, the newest two are kept", "[apps][resume]") {
  const Bench bench({"train.checkpoint_every=4"});
  bench.run_until("run", 11);
  CHECK(names_of(bench.folder("run").states()) ==
        std::vector<std::string>{"state_11.safetensors", "state_8.safetensors"});
  bench.run_until("run", 15);  // 14 is the end of an epoch
  CHECK(names_of(bench.folder("run").states()) ==
        std::vector<std::string>{"state_15.safetensors", "state_14.safetensors"});
  bench.run("run");
  CHECK(names_of(bench.folder("run").states()) ==
        std::vector<std::string>{"state_28.safetensors", "state_24.safetensors"});
}

TEST_CASE("run state: what a killed process leaves is cleared away, and later lines of the log too",
          "[apps][resume]") {
  const Bench bench({});
  bench.run("whole");
  bench.run_until("run", 6);
  const RunFolder folder = bench.folder("run");
  spill(folder.path / ".wedge-123-0.tmp", "half a chec");
  for (const char* name : {"notes.tmp", ".wedge-notes.tmp", "config.json.old.tmp", "config.json..tmp"})
    spill(folder.path / name, "of the user");
  spill(folder.metrics(), slurp(folder.metrics()) + "{\"step\":6,\"epoch\":1}\n{\"ste");
  bench.run("run");
  check_same_end(bench.folder("whole"), folder);
  CHECK_FALSE(fs::exists(folder.path / ".wedge-123-0.tmp"));
  for (const char* name : {"notes.tmp", ".wedge-notes.tmp", "config.json.old.tmp", "config.json..tmp"})
    CHECK(slurp(folder.path / name) == "of the user");
}

TEST_CASE("run state: a flipped bit anywhere is found, and so is a missing end", "[apps][resume]") {
  const Bench bench({"train.checkpoint_every=4"});
  bench.run_until("run", 9);
  const RunFolder folder = bench.folder("run");
  const fs::path newest = folder.state(9);
  const std::string good = slurp(newest);
  const std::size_t header =
      8 + static_cast<unsigned char>(good[0]) + 256u * static_cast<unsigned char>(good[1]);
  REQUIRE(header < good.size());
  // All over the header, and some of the data.
  const auto is_damaged = [&](const std::string& bytes) {
    spill(newest, bytes);
    try {
      check_state(newest);
    } catch (const Error& error) {
      return std::string(error.what()).find(newest.string()) != std::string::npos;
    }
    return false;
  };
  for (std::size_t i = 0; i < good.size(); i += i < header ? 13 : 3989) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << i % 8));
    CAPTURE(i, good[i]);
    CHECK(is_damaged(bad));
  }
  for (const std::size_t length :
       {std::size_t(0), std::size_t(7), header - 1, good.size() / 2, good.size() - 1})
    CHECK(is_damaged(good.substr(0, length)));

  spill(newest, good.substr(0, good.size() - 5));
  CHECK_THROWS_WITH(newest_state(folder),
                    ContainsSubstring(newest.string()) &&
                        ContainsSubstring("wedge train resume=" + folder.state(8).string()));
  ProgressSink quiet;
  const std::string untouched = slurp(folder.state(8));
  CHECK_THROWS_AS(train(bench.config, bench.corpus, &folder, quiet, newest), Error);
  CHECK(slurp(folder.state(8)) == untouched);
  CHECK_FALSE(fs::exists(folder.results()));
  // The one before is used when asked for, and the damaged one is not gone on from later.
  train(bench.config, bench.corpus, &folder, quiet, folder.state(8));
  bench.run("whole");
  check_same_end(bench.folder("whole"), folder);
  CHECK(names_of(folder.states()) ==
        std::vector<std::string>{"state_28.safetensors", "state_24.safetensors"});
}

TEST_CASE("run state: of another configuration or corpus it is refused", "[apps][resume]") {
  Bench bench({});
  bench.run_until("run", 3);
  const RunFolder folder = bench.folder("run");
  ProgressSink quiet;
  const auto resume = [&] { train(bench.config, bench.corpus, &folder, quiet, folder.state(3)); };
  bench.corpus.train.back() ^= 1;
  CHECK_THROWS_WITH(resume(), ContainsSubstring("another corpus"));
  bench.corpus.train.back() ^= 1;
  bench.config.train.learning_rate *= 2;
  CHECK_THROWS_WITH(
      resume(), Catch::Matchers::EndsWith("the run was configured otherwise: train.learning_rate is 0.01 in "
                                          "the state and 0.02 in the configuration"));
  bench.config.train.learning_rate /= 2;
  bench.config.train.checkpoint_every = 2;  // decides nothing
  bench.config.experiment.name = "another";
  resume();
}
