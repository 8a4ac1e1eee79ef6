#include "apps/commands.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "apps/conf/presets.h"
#include "apps/config_keys.h"
#include "apps/console.h"
#include "apps/help.h"
#include "apps/man_page.h"
#include "apps/words.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

constexpr Command kCommands[] = {
    {"train", "train one model, or with -m many, and compare them; go on with a run", run_train, train_help,
     "-m --multirun resume=", "model data train experiment seed"},
    {"eval", "loss and perplexity of a checkpoint", run_eval, eval_help,
     "checkpoint= data.split=", "data train.batch_size train.threads train.device train.amp"},
    {"generate", "text from a checkpoint", run_generate, generate_help,
     "checkpoint= prompt= max_tokens= temperature= top_k= top_p= seed= stop=", "train.device train.threads"},
    {"inspect", "what a model's mixers do over a text", run_inspect, inspect_help,
     "checkpoint= data.split= max_tokens= out=", "data train.threads train.device"},
    {"summarize", "the comparison table of a tree of runs", run_summarize, summarize_help,
     "--root= --out=", "", true},
    {"plot", "pictures of runs", run_plot, plot_help, "out=", "", true},
    {"report", "one page about a tree of runs", run_report, report_help, "out=", "", true},
    {"tokenize", "text on standard input to WordPiece ids", run_tokenize, tokenize_help, "vocab="},
    {"completion", "a script that completes words in the shell", run_completion, completion_help, "bash zsh"},
};

std::vector<std::string_view> split(std::string_view words) {
  std::vector<std::string_view> parts;
  while (!words.empty()) {
    const std::size_t end = std::min(words.find(' '), words.size());
    parts.push_back(words.substr(0, end));
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  return parts;
}

bool is_help(const std::string& word) {
  return word == "--help" || word == "-h";
}

// "wedge eval, generate" for checkpoint (or checkpoint=); empty where no command has a word of its own so
// called.
std::string commands_with_word(const std::string& name) {
  const std::string bare = name.substr(0, name.find('='));
  std::string text;
  for (const Command& command : kCommands)
    for (const std::string_view word : own_words_of(command)) {
      if (word != bare && word != bare + "=") continue;
      text += text.empty() ? "wedge " : ", ";
      text += command.name;
    }
  return text;
}

// A command, a key, a group of keys or a preset, or a word of a command.
std::string help_about(const std::string& name) {
  if (name == "--man") return man_page();
  for (const Command& command : kCommands)
    if (command.name == name) return command.help();
  if (const auto text = describe_key_or_group(name)) return *text;
  if (const std::string of = commands_with_word(name); !of.empty())
    return fmt::format("{} is a word of {}; what it means stands in that command's --help\n", name, of);
  std::vector<std::string_view> names;
  for (const Command& command : kCommands) names.push_back(command.name);
  for (const Key& key : config_keys()) names.push_back(key.name);
  throw Error(fmt::format("help: no command or key '{}'; {}", name,
                          nearest_is(name, names, "see wedge --help and wedge train --help")));
}

}  // namespace

std::span<const Command> commands() {
  return kCommands;
}

const Command& find_command(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Command& command : kCommands) {
    if (command.name == name) return command;
    names.push_back(command.name);
  }
  throw Error(fmt::format("unknown command '{}'; {}; see wedge --help", name,
                          nearest_is(name, names, fmt::format("expected {}", fmt::join(names, ", ")))));
}

std::vector<std::string_view> own_words_of(const Command& command) {
  return split(command.own_words);
}

std::vector<std::string_view> keys_of(const Command& command) {
  return split(command.keys);
}

std::vector<std::string> key_words_of(const Command& command) {
  std::vector<std::string> words;
  for (const std::string_view name : keys_of(command)) {
    for (const PresetGroup& group : preset_groups())
      if (group.name == name) words.push_back(fmt::format("{}=", name));
    for (const Key& key : config_keys())
      if (key.name == name || key.group() == name) words.push_back(fmt::format("{}=", key.name));
  }
  return words;
}

std::string general_help() {
  std::string text =
      R"(wedge: train, compare and dissect small language models

usage: wedge COMMAND [arguments]
       wedge COMMAND --help
       wedge help KEY          what a configuration key means, and its default
       wedge --version

commands:
)";
  for (const Command& command : kCommands) text += fmt::format("  {:<11}{}\n", command.name, command.summary);
  text +=
      R"(
examples:
  wedge train -m model=attention,grassmann data=builtin experiment=quick
  wedge train model=grassmann data=text train.num_epochs=3
  wedge eval checkpoint=runs/single/DATE/TIME_grassmann
  wedge generate checkpoint=runs/single/DATE/TIME_grassmann prompt='The river'

WikiText-2 and the vocabulary are looked for in $WEDGE_DATA (default ~/.cache/wedge).
Bad input ends with one line on standard error and exit status 2.
)";
  return text;
}

int run_command_line(const Arguments& arguments) {
  if (arguments.empty()) {
    print(general_help());
    flush_output();
    throw Error("no command given");
  }
  const std::string& first = arguments.front();
  if (is_help(first) || first == "help") {
    const bool general = arguments.size() == 1 || is_help(arguments[1]);
    print(general ? general_help() : help_about(arguments[1]));
    return 0;
  }
  if (first == "--version") {
    print("wedge " WEDGE_VERSION "\n");
    return 0;
  }
  const Command& command = find_command(first);
  const Arguments rest(arguments.begin() + 1, arguments.end());
  if (std::any_of(rest.begin(), rest.end(), is_help)) {
    print(command.help());
    return 0;
  }
  return command.run(Words(command, rest));
}

}  // namespace wedge::app
