// wedge train resume=... of one run: the command, with signals, kills and disks that refuse.
#include <fmt/format.h>
#include <sys/stat.h>

#include "tensor/rng.h"
#include "tests/apps/workplace.h"
#include "tests/support/catch.h"

using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("resume: a signal ends the step, saves, tells how to go on, and sets the status",
          "[apps][resume]") {
  const auto [signal, status, name] =
      GENERATE(table<int, int, std::string>({{SIGINT, 130, "SIGINT"}, {SIGTERM, 143, "SIGTERM"}}));
  const Workplace place;
  const RunFolder folder{place.cwd / "my run"};
  const fs::path log = place.temp / "log";
  const pid_t child = place.start(place.words("my run", {"train.num_epochs=100000"}), log);
  REQUIRE(wait_for(folder.last()));
  ::kill(child, signal);
  int raw = 0;
  REQUIRE(::waitpid(child, &raw, 0) == child);
  REQUIRE(WIFEXITED(raw));
  CHECK(WEXITSTATUS(raw) == status);
  CHECK_THAT(slurp(log), ContainsSubstring("wedge: stopped by " + name + " after step "));
  CHECK_THAT(slurp(log), ContainsSubstring("; to go on: wedge train resume='my run'\n"));
  CHECK_FALSE(folder.states().empty());
  CHECK_FALSE(fs::exists(folder.results()));
  for (const auto& entry : fs::directory_iterator(folder.path)) CHECK(entry.path().extension() != ".tmp");
}

TEST_CASE("resume: killed again and again at random moments, a run ends as one never interrupted",
          "[apps][resume]") {
  const Workplace place;
  const std::string model = "model=grassmann";
  // A state after each step, so that most moments are moments of writing.
  const std::vector<std::string> more = {model, "train.num_epochs=3", "train.checkpoint_every=1"};
  const auto begin = std::chrono::steady_clock::now();
  REQUIRE(place.train("whole", more).status == 0);
  const std::chrono::duration<double, std::micro> length = std::chrono::steady_clock::now() - begin;
  const auto whole = end_of({place.cwd / "whole"});
  wedge::Rng rng(7);
  int kills = 0, runs = 0, while_writing = 0;
#if defined(__SANITIZE_ADDRESS__)
  constexpr int kKills = 10;  // what they find besides, they find in a few
#else
  constexpr int kKills = 50;
#endif
  // So many, and more where none of them met a file half written.
  const auto enough = [&] { return kills >= kKills && (while_writing > 0 || kills >= 10 * kKills); };
  while (!enough()) {
    const std::string name = "run_" + std::to_string(runs++);
    const RunFolder folder{place.cwd / name};
    for (;;) {
      const bool begun = fs::exists(folder.config());
      const pid_t child =
          place.start(begun ? std::vector<std::string>{"train", "resume=" + name} : place.words(name, more),
                      place.temp / "log");
      // Somewhere in the length of a whole run, start and end included.
      const bool kill = !enough();
      if (kill) std::this_thread::sleep_for(rng.uniform() * length);
      if (kill) ::kill(child, SIGKILL);
      int raw = 0;
      REQUIRE(::waitpid(child, &raw, 0) == child);
      if (WIFSIGNALED(raw)) {
        ++kills;
        if (fs::exists(folder.path))
          for (const auto& entry : fs::directory_iterator(folder.path))
            while_writing += entry.path().extension() == ".tmp";
        continue;
      }
      INFO(slurp(place.temp / "log"));
      REQUIRE(WEXITSTATUS(raw) == 0);
      break;
    }
    CHECK(end_of(folder) == whole);
  }
  CHECK(while_writing > 0);
}

TEST_CASE("resume: killed between its last state and the end, a run keeps two states all the same",
          "[apps][resume]") {
  const Workplace place;
  REQUIRE(place.train("whole").status == 0);
  REQUIRE(place.train("run").status == 0);
  const RunFolder folder{place.cwd / "run"};
  fs::remove(folder.results());
  fs::copy_file(folder.states().back(), folder.state(1));
  REQUIRE(folder.states().size() == 3);
  REQUIRE(place.resume("run").status == 0);
  CHECK(end_of(folder) == end_of({place.cwd / "whole"}));
}

TEST_CASE("resume: a finished run says so, and one without a state starts afresh", "[apps][resume]") {
  const Workplace place;
  REQUIRE(place.train("whole").status == 0);
  REQUIRE(place.train("run").status == 0);
  const RunFolder folder{place.cwd / "run"};
  const auto before = snapshot(folder.path);
  const Outcome finished = place.resume("run");
  CHECK(finished.status == 0);
  CHECK(finished.out == "run is finished: nothing to do\n");
  CHECK(snapshot(folder.path) == before);
  const Outcome by_state = place.resume("run/state_14.safetensors");
  CHECK(by_state.status == 0);
  CHECK_THAT(by_state.out, ContainsSubstring("is finished"));

  fs::remove(folder.results());
  for (const fs::path& state : folder.states()) fs::remove(state);
  spill(folder.metrics(), "of a run that was killed\n");
  const Outcome afresh = place.resume("run");
  REQUIRE(afresh.status == 0);
  CHECK(afresh.out.starts_with("run has no state to go on from yet: it starts afresh\n"));
  CHECK(end_of(folder) == end_of({place.cwd / "whole"}));
}

TEST_CASE("resume: a run goes on when its corpus has moved, and only with the same one", "[apps][resume]") {
  const Workplace place;
  REQUIRE(place.train("whole", {"train.checkpoint_every=5"}).status == 0);
  fs::copy(place.cwd / "whole", place.cwd / "run");
  const RunFolder folder{place.cwd / "run"};
  fs::remove(folder.results());
  fs::remove(folder.state(28));
  fs::rename(place.cwd / "tokens.safetensors", place.cwd / "moved.safetensors");
  const Outcome missing = place.resume("run");
  CHECK(missing.status == 2);
  CHECK(is_one_error_line(missing.err));
  CHECK_THAT(missing.err, ContainsSubstring("tokens.safetensors") && ContainsSubstring("data.path=..."));
  write_tiny_corpus(place.cwd / "other.safetensors", 501);
  const Outcome other = place.resume("run", {"data.path=other.safetensors"});
  CHECK(other.status == 2);
  CHECK_THAT(other.err, ContainsSubstring("another corpus"));
  CHECK(slurp(folder.config()) == slurp(place.cwd / "whole/config.json"));

  REQUIRE(place.resume("run", {"data.path=moved.safetensors"}).status == 0);
  CHECK(without_times(folder.metrics()) == without_times(place.cwd / "whole/metrics.jsonl"));
  // From now on it is known there.
  CHECK(Json::parse(slurp(folder.config()))["data"]["path"] == "moved.safetensors");
  CHECK(run_wedge(place.cwd, {"eval", "checkpoint=run"}).status == 0);
}

TEST_CASE("resume: a run whose states are gone keeps its metrics", "[apps][resume]") {
  const Workplace place;
  REQUIRE(place.train("whole").status == 0);
  REQUIRE(place.train("run").status == 0);
  const RunFolder folder{place.cwd / "run"};
  fs::remove(folder.results());
  for (const fs::path& state : folder.states()) fs::remove(state);
  const auto before = snapshot(folder.path);
  const Outcome gone = place.resume("run");
  CHECK(gone.status == 2);
  CHECK(is_one_error_line(gone.err));
  CHECK_THAT(gone.err, ContainsSubstring("run/metrics.jsonl tells of finished epochs") &&
                           ContainsSubstring("train.init_from=run/last.safetensors"));
  CHECK(snapshot(folder.path) == before);

  // Killed after the first epoch's line and before its state, a run has lost nothing that it could go on
  // from.
  std::string lines = slurp(folder.metrics());
  spill(folder.metrics(), lines.substr(0, lines.find('\n', lines.find("val_loss")) + 1));
  REQUIRE(place.resume("run").status == 0);
  CHECK(end_of(folder) == end_of({place.cwd / "whole"}));
}

TEST_CASE("resume: a run that is under way or was begun is not written over", "[apps][resume]") {
  const Workplace place;
  const RunFolder folder{place.cwd / "run"};
  const pid_t child = place.start(place.words("run", {"train.num_epochs=100000"}), place.temp / "log");
  REQUIRE(wait_for(folder.metrics()));
  const Outcome other = place.train("run", {"seed=2"});
  CHECK(other.status == 2);
  ::kill(child, SIGTERM);
  int raw = 0;
  REQUIRE(::waitpid(child, &raw, 0) == child);
  CHECK(Json::parse(slurp(folder.config()))["seed"] != 2);

  // What was begun and has no state yet: of a multirun, and where a multirun is to be.
  for (const fs::path& begun : {place.cwd / "many" / "0_attention", place.cwd / "above"}) {
    fs::create_directories(begun);
    fs::copy_file(folder.config(), begun / "config.json");
  }
  for (const Outcome& refused : {place.train("many", {"-m", "model=grassmann", "seed=1,2"}),
                                 place.train("many"), place.train("above", {"-m", "seed=1,2"})}) {
    CHECK(refused.status == 2);
    CHECK_THAT(refused.err, ContainsSubstring("already holds a run or what one would write over"));
  }
  // A member of a multirun is no place for another run either.
  const Outcome member = place.train("many/0_attention", {"seed=5"});
  CHECK(member.status == 2);
  CHECK(slurp(place.cwd / "many/0_attention/config.json") == slurp(folder.config()));

  // Killed before it wrote its configuration, a run leaves its log, empty: that keeps nobody out.
  fs::create_directories(place.cwd / "nothing");
  spill(place.cwd / "nothing/metrics.jsonl", "");
  CHECK(place.train("nothing").status == 0);
}

TEST_CASE("resume: metrics that are shorter than the state says are not gone on with", "[apps][resume]") {
  const Workplace place;
  REQUIRE(place.train("run").status == 0);
  const RunFolder folder{place.cwd / "run"};
  fs::remove(folder.results());
  fs::resize_file(folder.metrics(), 5);
  const auto before = snapshot(folder.path);
  const Outcome cut = place.resume("run");
  CHECK(cut.status == 2);
  CHECK_THAT(cut.err,
             ContainsSubstring("metrics.jsonl: expected at least ") && ContainsSubstring(" bytes, it has 5"));
  CHECK(snapshot(folder.path) == before);

  fs::remove(folder.metrics());
  REQUIRE(::mkfifo(folder.metrics().c_str(), 0600) == 0);
  const Outcome pipe = place.resume("run");
  CHECK(pipe.status == 2);
  CHECK_THAT(pipe.err, ContainsSubstring("metrics.jsonl"));
}

TEST_CASE("resume: what cannot be gone on with is one line and status 2", "[apps][resume][bad]") {
  const Workplace place;
  REQUIRE(place.train("run", {"train.checkpoint_every=5"}).status == 0);
  const RunFolder folder{place.cwd / "run"};
  fs::remove(folder.results());
  fs::create_directories(place.cwd / "empty");
  const auto check = [&](const Outcome& outcome, const std::string& text) {
    CAPTURE(outcome.err);
    CHECK(outcome.status == 2);
    CHECK(is_one_error_line(outcome.err));
    CHECK_THAT(outcome.err, ContainsSubstring(text));
  };
  check(place.resume("nowhere"), "nowhere does not exist");
  check(place.resume("empty"), "empty holds no config.json");
  check(place.resume("tokens.safetensors"), "expected a run's folder or a state_STEP.safetensors");
  check(place.resume("run", {"resume=run"}), "given twice");
  check(place.resume("run", {"-m"}), "no -m");
  check(place.resume("run", {"train.learning_rate=1"}), "got train.learning_rate=1");
  check(place.resume("run", {"model=grassmann"}), "got model=grassmann");

  const std::string state = slurp(folder.state(28));
  spill(folder.state(28), state.substr(0, 1000));
  check(place.resume("run"), "to go on from the one before it: wedge train resume=run/state_25.safetensors");
  check(place.resume("run/state_28.safetensors"), "state_28.safetensors");
  const std::string other = slurp(folder.state(25));
  spill(folder.state(25), "");
  check(place.resume("run"), "remove it to start afresh");
  spill(folder.state(25), other);
  const std::string config = slurp(folder.config());
  spill(folder.config(), "{");
  check(place.resume("run"), "config.json: not JSON");
  spill(folder.config(), config);

  check(place.resume("run", {"experiment.name=other"}), "got experiment.name=other");
  // What does not change the bits can be given anew.
  REQUIRE(
      place.resume("run/state_25.safetensors", {"train.checkpoint_every=1", "train.graph=false"}).status ==
      0);
}

TEST_CASE("resume: a disk that takes no more leaves the state before, and its word", "[apps][resume][bad]") {
  const Workplace place;
  REQUIRE(place.train("whole", {"train.checkpoint_every=5"}).status == 0);
  std::string line = "\"$wedge\"";
  for (const std::string& word : place.words("full", {"train.checkpoint_every=5"}))
    line += " " + shell_quote(word);
  const Outcome full = run_shell(place.cwd, "ulimit -f 40; " + line);
  CHECK(full.status == 2);
  CHECK(is_one_error_line(full.err));
  CHECK_THAT(full.err, ContainsSubstring("state_5.safetensors") && ContainsSubstring("File too large") &&
                           ContainsSubstring("to go on: wedge train resume=full\n"));
  for (const auto& entry : fs::directory_iterator(place.cwd / "full")) {
    CHECK(entry.path().extension() != ".tmp");
    CHECK(entry.path().extension() != ".safetensors");
  }
  REQUIRE(place.resume("full").status == 0);
  CHECK(end_of({place.cwd / "full"}) == end_of({place.cwd / "whole"}));

  const RunFolder folder{place.cwd / "run"};
  REQUIRE(place.train("run", {"train.checkpoint_every=5"}).status == 0);
  fs::remove(folder.results());
  fs::remove(folder.state(28));
  const auto before = slurp(folder.state(25));
  const Outcome again = run_shell(place.cwd, "ulimit -f 40; \"$wedge\" train resume=run");
  CHECK(again.status == 2);
  CHECK_THAT(again.err, ContainsSubstring("File too large"));
  CHECK(slurp(folder.state(25)) == before);
  REQUIRE(place.resume("run").status == 0);
  CHECK(end_of(folder)["best"] == end_of({place.cwd / "whole"})["best"]);
}
