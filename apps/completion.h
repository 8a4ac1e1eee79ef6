// What a shell needs to complete the words of the wedge command.
#pragma once

#include <string>

namespace wedge::app {

// A script for "bash" or "zsh": commands, their words and keys, the values of keys with choices, and files.
// Made from the tables of commands, keys and presets. Throws wedge::Error for another shell.
std::string completion_script(const std::string& shell);

}  // namespace wedge::app
