// wedge help, the manual page and the shell's completion: all from the same tables.
#include "apps/help.h"

#include <filesystem>

#include "apps/commands.h"
#include "apps/completion.h"
#include "apps/conf/presets.h"
#include "apps/man_page.h"
#include "tests/apps/command_runner.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::app;
using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

TEST_CASE("help: every key, group and preset is documented", "[apps][help]") {
  const std::string man = man_page();
  CHECK(
      std::ranges::all_of(man, [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); }));  // for any roff
  for (const Key& key : config_keys()) {
    CAPTURE(key.name);
    const auto text = describe_key_or_group(std::string(key.name));
    REQUIRE(text.has_value());
    const Json value = get_key(wedge::app::Config{}, key);
    CHECK_THAT(*text,
               ContainsSubstring(std::string(key.name) + ": " + std::string(key.doc)) &&
                   ContainsSubstring(
                       "(default: " + (value.is_string() ? value.get<std::string>() : value.dump()) + ")"));
    CHECK_THAT(man, ContainsSubstring(".B " + std::string(key.name)));
  }
  for (const Preset& preset : presets())
    CHECK_THAT(*describe_key_or_group(preset.group + "=" + preset.name), ContainsSubstring(preset.doc));
  for (const Command& command : commands())
    CHECK_THAT(man, ContainsSubstring(".SS " + std::string(command.name)));
  CHECK_THAT(*describe_key_or_group("train"),
             ContainsSubstring("train.batch_size") && !ContainsSubstring("model."));
  CHECK_THAT(*describe_key_or_group("lags"),
             ContainsSubstring("model.lags: ") && ContainsSubstring("experiment=paper_12l_256 sets [1,1,2"));
  CHECK_FALSE(describe_key_or_group("nothing").has_value());
}

TEST_CASE("help command", "[apps][help][command]") {
  const TempDir temp;
  const fs::path cwd = temp / "cwd";
  fs::create_directories(cwd);
  CHECK_THAT(
      run_wedge(cwd, {"help", "train.batch_size"}).out,
      ContainsSubstring("train.batch_size: blocks of a batch; an integer, from 1 to 1048576 (default: 32)"));
  CHECK(run_wedge(cwd, {"help", "eval"}).out == run_wedge(cwd, {"eval", "--help"}).out);
  CHECK(run_wedge(cwd, {"help"}).out == run_wedge(cwd, {"--help"}).out);
  const Outcome wrong = run_wedge(cwd, {"help", "train.batch_siez"});
  CHECK(wrong.status == 2);
  CHECK_THAT(wrong.err,
             ContainsSubstring("no command or key 'train.batch_siez'; the nearest is train.batch_size"));
  CHECK_THAT(run_wedge(cwd, {"help", "prompt"}).out,
             ContainsSubstring("prompt is a word of wedge generate;"));
  CHECK_THAT(run_wedge(cwd, {"help", "checkpoint=x"}).out,
             ContainsSubstring("wedge eval, generate, inspect;"));
  CHECK(run_wedge(cwd, {"completion", "tcsh"}).status == 2);
  CHECK(run_wedge(cwd, {"completion"}).status == 2);
}

TEST_CASE("completion: bash offers commands, keys and values", "[apps][help][command]") {
  const TempDir temp;
  const fs::path cwd = temp / "cwd";
  fs::create_directories(cwd);
  if (run_shell(cwd, "bash --version").status != 0) {
    WARN("skipped: no bash");
    return;
  }
  spill(cwd / "a_file", "");
  const auto offered = [&](const std::string& line, const std::string& breaks = " =") {
    const std::string script =
        "source <(\"$wedge\" completion bash); COMP_WORDBREAKS=" + shell_quote(breaks) +
        " COMP_LINE=" + shell_quote(line) + " COMP_POINT=" + std::to_string(line.size()) +
        "; _wedge 2>/dev/null; echo \"${COMPREPLY[*]}\"";
    const Outcome outcome = run_shell(cwd, "bash -c " + shell_quote(script));
    CAPTURE(outcome.err);
    CHECK(outcome.status == 0);
    return outcome.out;
  };
  CHECK(offered("wedge ge") == "generate\n");
  CHECK(offered("wedge train train.bat") == "train.batch_size=\n");
  CHECK(offered("wedge train model=") == "attention grassmann\n");
  CHECK(offered("wedge train model=gr") == "grassmann\n");
  CHECK(offered("wedge train model=gr", " ") == "model=grassmann\n");
  CHECK(offered("wedge train model=grassmann train.shuffle=f") == "false\n");
  CHECK(offered("wedge eval checkpoint=a_f") == "a_file\n");
  CHECK(offered("wedge eval model.d_") == "\n");  // not eval's to change
  CHECK(offered("wedge summarize --ro") == "--root=\n");
  CHECK(offered("wedge train -m model=attention,gr") == "attention,grassmann\n");
  CHECK(offered("wedge train -m model=attention,gr", " ") == "model=attention,grassmann\n");
  CHECK(offered("wedge train resume=a_f") == "a_file\n");
  CHECK(offered("wedge generate prompt=a_f") == "\n");
  CHECK(offered("wedge help train.learn") == "train.learning_rate\n");
  CHECK(run_shell(cwd, "\"$wedge\" completion zsh").out.starts_with("autoload"));
}
