// wedge completion: a script for the shell.
#include "apps/commands.h"
#include "apps/completion.h"
#include "apps/console.h"
#include "apps/words.h"
#include "tensor/check.h"

namespace wedge::app {

std::string completion_help() {
  return R"(usage: wedge completion bash|zsh

Prints a script that completes commands, keys and their values. cmake --install puts bash's where bash looks
for it; else:

  source <(wedge completion bash)     in ~/.bashrc, or with zsh in ~/.zshrc
)";
}

int run_completion(const Words& words) {
  WEDGE_CHECK(words.has("bash") != words.has("zsh"), "completion: expected bash or zsh");
  print(completion_script(words.has("bash") ? "bash" : "zsh"));
  return 0;
}

}  // namespace wedge::app
