// wedge train resume=... of a multirun.
#include <fmt/format.h>

#include <memory>

#include "apps/files.h"
#include "apps/interrupt.h"
#include "tests/apps/workplace.h"
#include "tests/support/catch.h"

using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("resume: a multirun goes on with what is not finished", "[apps][resume]") {
  const Workplace place;
  const std::vector<std::string> more = {"-m", "model=attention,grassmann"};
  const Outcome whole = place.train("whole", more);
  REQUIRE(whole.status == 0);
  REQUIRE(place.train("runs", more).status == 0);
  const fs::path above = place.cwd / "runs";
  fs::remove(above / "comparison.md");
  const RunFolder second{above / "1_grassmann"};
  fs::remove(second.results());
  fs::remove(second.state(28));
  const std::string first = slurp(above / "0_attention" / "results.json");
  const Outcome outcome = place.resume("runs");
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, ContainsSubstring("run 1 of 2: runs/0_attention is finished"));
  CHECK_THAT(outcome.out, ContainsSubstring("28 steps, going on after 14"));
  CHECK(slurp(above / "0_attention" / "results.json") == first);
  CHECK(end_of(second) == end_of({place.cwd / "whole" / "1_grassmann"}));
  CHECK(fs::exists(above / "comparison.md"));
  CHECK(place.resume("runs").out == "runs is finished: nothing to do\n");
}

TEST_CASE("resume: where a corpus has moved, a run without a state is judged by its neighbours",
          "[apps][resume]") {
  const Workplace place;
  REQUIRE(place.train("runs", {"-m", "seed=1,2", "train.max_steps=1"}).status == 0);
  const fs::path above = place.cwd / "runs", second = above / "1_attention";
  fs::remove(above / "comparison.md");
  for (const fs::directory_entry& entry : fs::directory_iterator(second))
    if (entry.path().filename() != "config.json") fs::remove(entry.path());
  fs::rename(place.cwd / "tokens.safetensors", place.cwd / "moved.safetensors");
  write_tiny_corpus(place.cwd / "other.safetensors", 400);

  const auto before = snapshot(second);
  const Outcome other = place.resume("runs", {"data.path=other.safetensors"});
  CHECK(other.status == 2);
  CHECK_THAT(other.err, ContainsSubstring("trained on another corpus"));
  CHECK(snapshot(second) == before);
  CHECK(place.resume("runs", {"data.path=moved.safetensors"}).status == 0);
  // The first run was finished where the corpus lay before.
  CHECK_THAT(slurp(above / "comparison.md"), ContainsSubstring("mean of 2 seeds"));

  // Nobody is left to judge by.
  fs::remove(above / "comparison.md");
  for (const char* member : {"0_attention", "1_attention"})
    for (const fs::directory_entry& entry : fs::directory_iterator(above / member))
      if (entry.path().filename() != "config.json") fs::remove(entry.path());
  const Outcome alone = place.resume("runs", {"data.path=other.safetensors"});
  CHECK(alone.status == 2);
  CHECK_THAT(alone.err, ContainsSubstring("no state that could tell whether this is the corpus"));
}

TEST_CASE("resume: a multirun that was killed while it was set up is not taken for a whole one",
          "[apps][resume]") {
  const Workplace place;
  REQUIRE(place.train("runs", {"-m", "seed=1,2,3", "train.max_steps=1"}).status == 0);
  const fs::path above = place.cwd / "runs";
  CHECK(slurp(above / "multirun.json") == "{\"runs\":3}\n");
  fs::remove(above / "comparison.md");
  fs::remove_all(above / "2_attention");
  const auto refused = [&](const std::string& part) {
    const auto before = snapshot(above);
    const Outcome outcome = place.resume("runs");
    CHECK(outcome.status == 2);
    CHECK(is_one_error_line(outcome.err));
    CHECK_THAT(outcome.err, ContainsSubstring(part));
    CHECK(snapshot(above) == before);
    return outcome.err;
  };
  // What was trained is not to be removed.
  CHECK_THAT(
      refused("runs: expected as many runs as multirun.json says, 3, found 2: to go on with these alone, "
              "remove runs/multirun.json"),
      !ContainsSubstring("start again"));
  const auto trained = above / "0_attention" / "last.safetensors";
  for (const fs::path& member : {above / "0_attention", above / "1_attention"})
    for (const fs::directory_entry& entry : fs::directory_iterator(member))
      if (entry.path() != trained && entry.path().filename() != "config.json") fs::remove(entry.path());
  CHECK_THAT(refused("found 2"), !ContainsSubstring("start again"));
  fs::remove(trained);
  refused(
      "none was trained: remove it and start again; to go on with these alone, remove runs/multirun.json");
  spill(above / "multirun.json", "");
  refused("runs/multirun.json: damaged; expected {\"runs\":NUMBER}");
  fs::remove(above / "multirun.json");
  CHECK(place.resume("runs").status == 0);
}

TEST_CASE("resume: a copy of a run beside the runs of a multirun is none of them", "[apps][resume]") {
  const Workplace place;
  REQUIRE(place.train("runs", {"-m", "seed=1,2", "train.max_steps=1"}).status == 0);
  const fs::path above = place.cwd / "runs";
  for (const char* name : {"0_attention.bak", "00_attention", "2_attention", "1_"})
    fs::copy(above / "0_attention", above / name);
  fs::remove(above / "comparison.md");
  const Outcome outcome = place.resume("runs");
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, ContainsSubstring("run 2 of 2: runs/1_attention is finished"));
  CHECK_THAT(run_wedge(place.cwd, {"eval", "checkpoint=runs"}).err,
             ContainsSubstring("expected one of them: runs/0_attention, runs/1_attention\n"));

  fs::copy(above / "0_attention", above / "0_grassmann");
  const Outcome two = place.resume("runs");
  CHECK(two.status == 2);
  CHECK(is_one_error_line(two.err));
  CHECK_THAT(two.err,
             ContainsSubstring("both are run 0 of a multirun: move the one that is a copy elsewhere"));
}

TEST_CASE("resume: a signal while a run of a multirun is validated ends the multirun", "[apps][resume]") {
  const Workplace place;
  write_tiny_corpus(place.cwd / "tokens.safetensors", 40, 100'000);
  const std::vector<std::string> more = {"-m", "seed=1,2", "train.batch_size=1", "train.num_epochs=1"};
  const fs::path log = place.temp / "log", above = place.cwd / "runs";
  const pid_t child = place.start(place.words("runs", more), log);
  for (int i = 0; i < 3000 && slurp(log).find("step 4/4") == std::string::npos; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  ::kill(child, SIGTERM);
  int raw = 0;
  REQUIRE(::waitpid(child, &raw, 0) == child);
  REQUIRE(WIFEXITED(raw));
  CHECK(WEXITSTATUS(raw) == 143);
  CHECK_THAT(slurp(log),
             ContainsSubstring("wedge: stopped by SIGTERM after step 4 of 4; to go on: wedge train "
                               "resume=runs\n") &&
                 !ContainsSubstring("run 2 of 2"));
  CHECK(fs::exists(above / "0_attention/state_4.safetensors"));
  CHECK_FALSE(fs::exists(above / "1_attention/metrics.jsonl"));

  REQUIRE(place.train("whole", more).status == 0);
  REQUIRE(place.resume("runs").status == 0);
  for (const char* name : {"0_attention", "1_attention"})
    CHECK(end_of({above / name}) == end_of({place.cwd / "whole" / name}));
}

TEST_CASE("resume: a signal at the very beginning of a multirun leaves one that can be gone on with",
          "[apps][resume]") {
  const Workplace place;
  const pid_t child =
      place.start(place.words("runs", {"-m", "seed=1,2", "train.num_epochs=100000"}), place.temp / "log");
  REQUIRE(wait_for(place.cwd / "runs/multirun.json"));
  ::kill(child, SIGINT);
  int raw = 0;
  REQUIRE(::waitpid(child, &raw, 0) == child);
  REQUIRE(WIFEXITED(raw));
  CHECK(WEXITSTATUS(raw) == 130);
  CHECK_THAT(slurp(place.temp / "log"), ContainsSubstring("; to go on: wedge train resume=runs\n"));
  CHECK(fs::exists(place.cwd / "runs/1_attention/config.json"));
}

TEST_CASE("resume: a signal that came before a run of a multirun keeps that from beginning",
          "[apps][resume]") {
  const Workplace place;
  const fs::path above = place.cwd / "runs";
  fs::create_directories(above);
  auto held = std::make_unique<wedge::app::FolderLock>(above);  // where it waits, signals are noted already
  const pid_t child = place.start(place.words("runs", {"-m", "seed=1,2"}), place.temp / "log");
  const std::string waits = fmt::format("-> FLOCK  ADVISORY  WRITE {} ", child);
  for (int i = 0; i < 3000 && slurp("/proc/locks").find(waits) == std::string::npos; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  REQUIRE(slurp("/proc/locks").find(waits) != std::string::npos);
  ::kill(child, SIGTERM);
  held.reset();
  int raw = 0;
  REQUIRE(::waitpid(child, &raw, 0) == child);
  REQUIRE(WIFEXITED(raw));
  CHECK(WEXITSTATUS(raw) == 143);
  CHECK_THAT(slurp(place.temp / "log"),
             ContainsSubstring("stopped by SIGTERM before run 1 of 2; to go on: wedge train resume=runs\n"));
  CHECK_FALSE(fs::exists(above / "0_attention/metrics.jsonl"));
  CHECK(place.resume("runs").status == 0);
}

TEST_CASE("interrupt: a guard within another leaves what was noted to the outer one", "[apps][resume]") {
  using wedge::app::InterruptGuard;
  {
    const InterruptGuard outer;
    {
      const InterruptGuard inner;
      ::raise(SIGTERM);
      CHECK(inner.signal() == SIGTERM);
    }
    CHECK(outer.signal() == SIGTERM);
    CHECK(InterruptGuard().signal() == SIGTERM);
    CHECK(std::string(outer.name()) == "SIGTERM");
  }
  CHECK(InterruptGuard().signal() == 0);
}

TEST_CASE("resume: of a run and a multirun that start in one folder at once, one is refused",
          "[apps][resume]") {
  const Workplace place;
  for (int round = 0; round < 10; ++round) {
    const std::string name = "runs_" + std::to_string(round);
    const pid_t single = place.start(place.words(name), place.temp / "log");
    const pid_t many = place.start(place.words(name, {"-m", "seed=3,4"}), place.temp / "log2");
    int status[2] = {};
    REQUIRE(::waitpid(single, &status[0], 0) == single);
    REQUIRE(::waitpid(many, &status[1], 0) == many);
    REQUIRE((WIFEXITED(status[0]) && WIFEXITED(status[1])));
    CHECK(WEXITSTATUS(status[0]) + WEXITSTATUS(status[1]) == 2);
    const bool single_won = WEXITSTATUS(status[0]) == 0;
    CHECK_THAT(
        slurp(place.temp / (single_won ? "log2" : "log")),
        ContainsSubstring(" already holds a run or ") || ContainsSubstring(" already holds a checkpoint, "));
    CHECK(fs::exists(place.cwd / name / "results.json") == single_won);
    CHECK(fs::exists(place.cwd / name / "multirun.json") == !single_won);
  }
}

TEST_CASE("resume: of two multiruns that start in one folder at once, one is refused and writes nothing",
          "[apps][resume]") {
  const Workplace place;
  for (int round = 0; round < 5; ++round) {
    const std::string name = "runs_" + std::to_string(round);
    const pid_t first = place.start(place.words(name, {"-m", "seed=1,2"}), place.temp / "log");
    const pid_t second = place.start(place.words(name, {"-m", "seed=3,4"}), place.temp / "log2");
    int status[2] = {};
    REQUIRE(::waitpid(first, &status[0], 0) == first);
    REQUIRE(::waitpid(second, &status[1], 0) == second);
    REQUIRE((WIFEXITED(status[0]) && WIFEXITED(status[1])));
    const bool first_won = WEXITSTATUS(status[0]) == 0;
    CHECK(WEXITSTATUS(status[first_won]) == 2);
    CHECK(WEXITSTATUS(status[!first_won]) == 0);
    CHECK_THAT(slurp(place.temp / (first_won ? "log2" : "log")),
               ContainsSubstring("cannot make:") || ContainsSubstring(" already holds a run"));
    for (const int run : {0, 1}) {
      const RunFolder folder{place.cwd / name / fmt::format("{}_attention", run)};
      const int seed = run + (first_won ? 1 : 3);
      CHECK(Json::parse(slurp(folder.config()))["seed"] == seed);
      CHECK(Json::parse(slurp(folder.results()))["config"]["seed"] == seed);
    }
  }
}
