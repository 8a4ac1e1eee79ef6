// The subcommands of `wedge`: one file each, <name>_command.cpp.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace wedge::app {

using Arguments = std::vector<std::string>;
class Words;

// What a command takes is said here alone: its words are sorted by it (words.h), and help and completion list
// it.
struct Command {
  std::string_view name;
  std::string_view summary;        // one line
  int (*run)(const Words& words);  // returns the exit status; throws wedge::Error
  std::string (*help)();
  // With spaces between them: words of its own, NAME= where a value follows; and groups of configuration
  // keys ("data", with its presets) and single ones ("train.device").
  std::string_view own_words = {}, keys = {};
  bool takes_paths = false;  // and words beside these, which do not begin with -
};

int run_train(const Words& words);
int run_completion(const Words& words);
int run_eval(const Words& words);
int run_generate(const Words& words);
int run_inspect(const Words& words);
int run_plot(const Words& words);
int run_report(const Words& words);
int run_summarize(const Words& words);
int run_tokenize(const Words& words);
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

// Throws wedge::Error that names the nearest for a name that no command has.
const Command& find_command(std::string_view name);

// The entries of Command::own_words and Command::keys.
std::vector<std::string_view> own_words_of(const Command& command);
std::vector<std::string_view> keys_of(const Command& command);
// The configuration keys that the command takes, with = after each; before those of a group the group itself,
// where it has presets: "data=", "data.source=", ...
std::vector<std::string> key_words_of(const Command& command);

// What `wedge --help` prints.
std::string general_help();

// Runs the command line (without the program's name) and returns the exit status. Throws wedge::Error.
int run_command_line(const Arguments& arguments);

}  // namespace wedge::app
