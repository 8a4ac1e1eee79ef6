// The subcommands of `wedge`: one file each, <name>_command.cpp.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace wedge::app {

using Arguments = std::vector<std::string>;

struct Command {
  std::string_view name;
  std::string_view summary;                // one line
  int (*run)(const Arguments& arguments);  // returns the exit status; throws wedge::Error
  std::string (*help)();
  std::string_view own_words;   // for completion: words of its own, with spaces between them
  std::string_view key_groups;  // and the groups of configuration keys that it takes
};

int run_train(const Arguments& arguments);
int run_completion(const Arguments& arguments);
int run_eval(const Arguments& arguments);
int run_generate(const Arguments& arguments);
int run_inspect(const Arguments& arguments);
int run_plot(const Arguments& arguments);
int run_report(const Arguments& arguments);
int run_summarize(const Arguments& arguments);
int run_tokenize(const Arguments& arguments);
std::string train_help();
std::string completion_help();
std::string eval_help();
std::string generate_help();
std::string inspect_help();
std::string plot_help();
std::string report_help();
std::string summarize_help();
std::string tokenize_help();

// All subcommands, in the order of the help text.
std::span<const Command> commands();

// What `wedge --help` prints.
std::string general_help();

// Runs the command line (without the program's name) and returns the exit status. Throws wedge::Error.
int run_command_line(const Arguments& arguments);

}  // namespace wedge::app
