// wedge train resume=... of a multirun.
#include <fmt/format.h>

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
  for (const char* number : {"{\"runs\":3}\n", ""}) {
    spill(above / "multirun.json", number);
    const auto before = snapshot(above);
    const Outcome part = place.resume("runs");
    CHECK(part.status == 2);
    CHECK(is_one_error_line(part.err));
    CHECK_THAT(part.err, ContainsSubstring("expected as many runs as multirun.json says, found 2") &&
                             ContainsSubstring("to go on with these alone, remove runs/multirun.json"));
    CHECK(snapshot(above) == before);
  }
  fs::remove(above / "multirun.json");
  CHECK(place.resume("runs").status == 0);
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
