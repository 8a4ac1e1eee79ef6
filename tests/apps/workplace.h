// A folder with a small corpus in which the command trains, is stopped and goes on.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "apps/config.h"
#include "apps/run_dir.h"
#include "tests/apps/command_runner.h"
#include "tests/apps/tiny_corpus.h"
#include "tests/support/files.h"
#include "tests/support/temp_dir.h"

namespace wedge::test {

namespace fs = std::filesystem;
using app::Json;
using app::RunFolder;

struct Workplace {
  Workplace() {
    fs::create_directories(cwd);
    write_tiny_corpus(cwd / "tokens.safetensors");
  }

  // The words of a run in cwd/NAME.
  std::vector<std::string> words(const std::string& name, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = tiny_train({"experiment.run_dir=" + name, "train.threads=1"});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Outcome train(const std::string& name, const std::vector<std::string>& more = {}) const {
    return run_wedge(cwd, words(name, more));
  }
  Outcome resume(const std::string& path, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = {"train", "resume=" + path};
    all.insert(all.end(), more.begin(), more.end());
    return run_wedge(cwd, all);
  }

  // Starts the command, all of whose output goes to `log`.
  pid_t start(const std::vector<std::string>& arguments, const fs::path& log) const {
    const pid_t child = ::fork();
    if (child == 0) {
      if (::chdir(cwd.c_str()) != 0) ::_exit(98);
      const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
      ::dup2(fd, STDOUT_FILENO);
      ::dup2(fd, STDERR_FILENO);
      ::signal(SIGINT, SIG_DFL);
      std::vector<char*> argv = {const_cast<char*>("wedge")};
      for (const std::string& word : arguments) argv.push_back(const_cast<char*>(word.c_str()));
      argv.push_back(nullptr);
      ::execv(WEDGE_COMMAND, argv.data());
      ::_exit(99);
    }
    return child;
  }

  TempDir temp;
  fs::path cwd = temp / "cwd";
};

inline bool wait_for(const fs::path& path) {
  for (int i = 0; i < 3000 && !fs::exists(path); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return fs::exists(path);
}

// Names and contents of what must not depend on interruptions.
inline std::map<std::string, std::string> end_of(const RunFolder& folder) {
  std::map<std::string, std::string> end = {{"best", slurp(folder.best())},
                                            {"last", slurp(folder.last())},
                                            {"metrics", without_times(folder.metrics())}};
  Json results = Json::parse(slurp(folder.results()));
  results.erase("tokens_per_second");
  results["config"]["experiment"].erase("run_dir");
  end["results"] = results.dump();
  for (const auto& entry : fs::directory_iterator(folder.path))
    end["name " + entry.path().filename().string()];
  return end;
}

}  // namespace wedge::test
