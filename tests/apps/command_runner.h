// Runs the real `wedge` binary, and looks at what it left behind.
#pragma once

#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tensor/json.h"

#include "tests/support/files.h"

namespace wedge::test {

struct Outcome {
  int status = -1;  // exit status; -1 when a signal ended the process
  std::string out, err;
};

inline std::string shell_quote(const std::string& word) {
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// Runs a shell command line in which $wedge is the binary, in the folder `cwd`; its streams go to files
// beside that folder, so that `cwd` shows only what the command made. $WEDGE_DATA is a folder that does not
// exist.
inline Outcome run_shell(const std::filesystem::path& cwd, const std::string& line) {
  const std::string base = cwd.string();
  const std::string command = "cd " + shell_quote(base) +
                              " && export WEDGE_DATA=" + shell_quote(base + ".none") +
                              " wedge=" + shell_quote(WEDGE_COMMAND) + "; (" + line + ") > " +
                              shell_quote(base + ".out") + " 2> " + shell_quote(base + ".err");
  const int raw = std::system(command.c_str());
  Outcome outcome;
  outcome.status = WIFEXITED(raw) ? WEXITSTATUS(raw) : -1;
  outcome.out = slurp(base + ".out");
  outcome.err = slurp(base + ".err");
  std::filesystem::remove(base + ".out");
  std::filesystem::remove(base + ".err");
  return outcome;
}

inline Outcome run_wedge(const std::filesystem::path& cwd, const std::vector<std::string>& arguments) {
  std::string line = "\"$wedge\"";
  for (const std::string& word : arguments) line += " " + shell_quote(word);
  return run_shell(cwd, line);
}

// Every file and folder below `root`, with the files' contents.
inline std::map<std::string, std::string> snapshot(const std::filesystem::path& root) {
  std::map<std::string, std::string> tree;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root))
    tree[entry.path().lexically_relative(root).string()] =
        entry.is_directory() ? "<folder>" : slurp(entry.path());
  return tree;
}

// metrics.jsonl without what depends on the machine's speed.
inline std::string without_times(const std::filesystem::path& jsonl) {
  std::string text;
  std::istringstream lines(slurp(jsonl));
  for (std::string line; std::getline(lines, line);) {
    auto json = nlohmann::ordered_json::parse(line);
    json.erase("tokens_per_second");
    text += json.dump() + "\n";
  }
  return text;
}

// Whether `err` is one line that starts as every error of wedge does.
inline bool is_one_error_line(const std::string& err) {
  return err.starts_with("wedge: error: ") && std::count(err.begin(), err.end(), '\n') == 1 &&
         err.back() == '\n';
}

}  // namespace wedge::test
