#include "apps/words.h"

#include "tensor/check.h"
#include "tests/support/catch.h"

using namespace wedge;
using namespace wedge::app;

namespace {

constexpr Command kCommand = {.name = "cmd",
                              .summary = "",
                              .run = nullptr,
                              .help = nullptr,
                              .own_words = "-m name= --out=",
                              .keys = "data train.device",
                              .takes_paths = true};
constexpr Command kPlain = {
    .name = "plain", .summary = "", .run = nullptr, .help = nullptr, .own_words = "name="};

}  // namespace

TEST_CASE("words: sorted into the command's own, keys and paths", "[apps]") {
  const Words words(kCommand, {"a", "name=x=y", "data=text", "-m", "data.path=p", "b=c", "--out", "here",
                               "train.device=cpu"});
  CHECK(words.has("-m"));
  CHECK(words.text("name") == "x=y");
  CHECK(words.text("--out") == "here");
  CHECK(words.keys() == std::vector<std::string>{"data=text", "data.path=p", "train.device=cpu"});
  CHECK(words.paths() == std::vector<std::string>{"a", "b=c"});

  const Words none(kCommand, {"--out=there"});
  CHECK_FALSE(none.has("-m"));
  CHECK_FALSE(none.text("name").has_value());
  CHECK(none.text("--out") == "there");
  CHECK_THROWS_WITH(none.required("name", "NAME"), "cmd: name=NAME is missing");
}

TEST_CASE("words: what a command does not take, or takes once, is refused", "[apps]") {
  const auto fails = [](const Command& command, const std::vector<std::string>& arguments,
                        const std::string& error) { CHECK_THROWS_WITH(Words(command, arguments), error); };
  fails(kCommand, {"name=a", "name=b"}, "cmd: name is given twice");
  fails(kCommand, {"--out=a", "--out", "b"}, "cmd: --out is given twice");
  fails(kCommand, {"name="}, "cmd: name needs a value");
  fails(kCommand, {"--out"}, "cmd: --out needs a value");
  fails(kCommand, {"-m=1"}, "cmd: -m takes no value");
  fails(kCommand, {"--uot"}, "cmd: unknown option '--uot'; the nearest is --out=");
  fails(kPlain, {"nmae=x"}, "plain: unknown key 'nmae'; the nearest is name=");
  fails(kPlain, {"name"}, "plain: unknown argument 'name'; the nearest is name=");
  fails(kPlain, {"data.path=p"}, "plain: unknown key 'data.path'; see wedge plain --help");
  fails(kCommand, {"--out=~/x"},
        "--out: expected a path, got ~/x, whose ~ the shell has not replaced; write $HOME/x");
  fails(kCommand, {"--out=~", "a"},
        "--out: expected a path, got ~, whose ~ the shell has not replaced; write $HOME");
  fails(kCommand, {"--out=~user/x"},
        "--out: expected a path, got ~user/x, whose ~ the shell has not replaced; write that folder in full, "
        "or ./~user/x for a name that begins so");
  fails(kCommand, {"~user"},
        "cmd: expected a path, got ~user, whose ~ the shell has not replaced; write that folder in full, or "
        "./~user for a name that begins so");
  CHECK(Words(kCommand, {"./~user"}).paths() == std::vector<std::string>{"./~user"});
  CHECK(Words(kCommand, {"name=~/x", "--out=a~/x"}).text("name") == "~/x");  // no path, and no such ~
  constexpr Command with_keys = {.name = "eval",
                                 .summary = "",
                                 .run = nullptr,
                                 .help = nullptr,
                                 .own_words = "name=",
                                 .keys = "data train.device"};
  fails(with_keys, {"train.amp=true"},
        "eval: train.amp comes with the checkpoint and cannot be changed; data, train.device can");
  fails(with_keys, {"data.path"}, "eval: unknown argument 'data.path'; the nearest is data.path=");
  fails(with_keys, {"data.paht=p"}, "eval: unknown key 'data.paht'; the nearest is data.path=");
}

TEST_CASE("words: every command takes the words that its entry lists", "[apps]") {
  for (const Command& command : commands()) {
    CAPTURE(command.name);
    for (const std::string& word : key_words_of(command))
      CHECK(Words(command, {word + "x"}).keys() == std::vector<std::string>{word + "x"});
    for (const std::string_view word : own_words_of(command)) {
      const std::string name(word.substr(0, word.find('=')));
      CHECK(Words(command, {name == word ? name : name + "=x"}).has(name));
    }
  }
}
