#include "apps/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <vector>

#include "apps/commands.h"
#include "apps/conf/presets.h"
#include "apps/config_keys.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

// The words after a command: its own, then the presets and keys that it takes.
std::vector<std::string> words_of(const Command& command) {
  std::vector<std::string> words;
  for (const std::string_view word : own_words_of(command)) words.emplace_back(word);
  for (const std::string& word : key_words_of(command)) words.push_back(word);
  return words;
}

// What may stand after "NAME=", for the names where that is known.
std::map<std::string, std::vector<std::string>> values_of_names() {
  std::map<std::string, std::vector<std::string>> values;
  for (const Preset& preset : presets()) values[preset.group].push_back(preset.name);
  for (const Key& key : config_keys()) {
    if (!key.choices.empty())
      for (const std::string_view choice : split_choices(key.choices))
        values[std::string(key.name)].emplace_back(choice);
    else if (type_name(key) == "true or false")
      values[std::string(key.name)] = {"true", "false"};
  }
  for (const char* mixer : {"model.tensor_lifting_strategy"}) values[mixer] = values["model"];
  values["data.split"] = {"train", "validation", "test"};
  return values;
}

}  // namespace

std::string completion_script(const std::string& shell) {
  WEDGE_CHECK(shell == "bash" || shell == "zsh", "completion: expected bash or zsh, got '{}'", shell);
  std::vector<std::string> names;
  std::string words, values;
  for (const Command& command : commands()) {
    names.emplace_back(command.name);
    words += fmt::format("    {}) words=\"{}\" ;;\n", command.name, fmt::join(words_of(command), " "));
  }
  for (const auto& [name, list] : values_of_names())
    values += fmt::format("      {}) COMPREPLY=($(compgen -W \"{}\" -- \"$value\")) ;;\n", name,
                          fmt::join(list, " "));
  std::vector<std::string> keys;
  for (const Key& key : config_keys()) keys.emplace_back(key.name);

  // Folders end in a slash, and names with spaces are one word, where the shell can say so.
  const std::string files =
      shell == "bash" ? "mapfile -t COMPREPLY < <(compgen -f -- \"$value\"); compopt -o filenames 2>/dev/null"
                      : "COMPREPLY=($(compgen -f -- \"$value\"))";
  std::string script = shell == "zsh" ? "autoload -U +X bashcompinit && bashcompinit\n" : "";
  script += "# Completion for wedge; made by wedge completion.\n";
  script += "_wedge() {\n";
  script += "  local line=${COMP_LINE:0:COMP_POINT} words value\n";
  script += "  local current=${line##* }\n";
  script += "  COMPREPLY=()\n";
  script += "  local before=(${line% *})\n";
  script += "  if [ ${#before[@]} -le 1 ] && [[ $line == *\" \"* ]]; then\n";
  script += fmt::format("    COMPREPLY=($(compgen -W \"help {}\" -- \"$current\"))\n", fmt::join(names, " "));
  script += "    return\n  fi\n";
  script += "  if [[ $current == *=* ]]; then\n";
  script += "    value=${current#*=}\n";
  script += "    local whole=$value list=${value%\"${value##*,}\"}\n";
  script += "    value=${value##*,}\n";
  script += "    case ${current%%=*} in\n" + values;
  script += "      prompt|stop) return ;;\n";
  script += "      *) list= value=$whole; " + files + " ;;\n";
  script += "    esac\n";
  // Of several values with commas between them the last is completed.
  script += "    if [ -n \"$list\" ]; then COMPREPLY=(\"${COMPREPLY[@]/#/$list}\"); fi\n";
  // Where = does not end a word, what is completed is the whole word.
  script +=
      "    if [[ $COMP_WORDBREAKS != *=* ]]; then COMPREPLY=(\"${COMPREPLY[@]/#/${current%%=*}=}\"); fi\n";
  script += "    return\n  fi\n";
  script += "  case $(set -- $line; echo \"$2\") in\n" + words;
  script += fmt::format("    help) words=\"{} {}\" ;;\n", fmt::join(names, " "), fmt::join(keys, " "));
  script += "  esac\n";
  script += "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\") $(compgen -f -- \"$current\"))\n";
  script += "  if [ ${#COMPREPLY[@]} -eq 1 ] && [[ ${COMPREPLY[0]} == *= ]]; then compopt -o nospace; fi\n";
  script += "}\ncomplete -F _wedge wedge\n";
  return script;
}

}  // namespace wedge::app
