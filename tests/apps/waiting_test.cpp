// What the command tells the OpenMP runtime, seen in what the runtime says of itself.
#include "tests/apps/command_runner.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge::test;

#if defined(__linux__) && !defined(__clang__)

namespace {

// How often the runtime tells its settings, and two of the last time.
struct Settings {
  int times = 0;
  std::string spins, threads;
};

Settings settings_with(const std::filesystem::path& cwd, const std::string& environment) {
  const Outcome outcome =
      run_shell(cwd,
                "unset OMP_WAIT_POLICY GOMP_SPINCOUNT OMP_PROC_BIND OMP_PLACES GOMP_CPU_AFFINITY; "
                "export OMP_DISPLAY_ENV=VERBOSE; " +
                    environment + " \"$wedge\" help resume");
  CHECK(outcome.status == run_wedge(cwd, {"help", "resume"}).status);
  CHECK(outcome.out == run_wedge(cwd, {"help", "resume"}).out);  // argv arrives
  Settings settings;
  const auto last_of = [&](const std::string& key, int* times) {
    std::string value;
    for (std::size_t at = 0; (at = outcome.err.find(key + " = '", at)) != std::string::npos;) {
      at += key.size() + 4;
      value = outcome.err.substr(at, outcome.err.find('\'', at) - at);
      if (times != nullptr) ++*times;
    }
    return value;
  };
  settings.spins = last_of("GOMP_SPINCOUNT", &settings.times);
  settings.threads = last_of("OMP_NUM_THREADS", nullptr);
  return settings;
}

}  // namespace

TEST_CASE("threads spin a while and no longer, unless the user says how", "[apps][command]") {
  const TempDir temp;
  const Settings by_itself = settings_with(temp.path(), "");
  CHECK(by_itself.times == 2);
  CHECK(by_itself.spins == "10000");
  const Settings given = settings_with(temp.path(), "GOMP_SPINCOUNT=77");
  CHECK(given.times == 1);
  CHECK(given.spins == "77");
  const Settings passive = settings_with(temp.path(), "OMP_WAIT_POLICY=passive");
  CHECK(passive.times == 1);
  CHECK(passive.spins == "0");
  // Threads that are bound to cores keep all of them.
  const Settings bound = settings_with(temp.path(), "OMP_PROC_BIND=true");
  CHECK(bound.times == 1);
  CHECK(bound.threads == by_itself.threads);
}

#endif
