#include "apps/summarize.h"

#include "tensor/check.h"
#include "tests/apps/command_runner.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::app;
using Catch::Matchers::ContainsSubstring;
using wedge::test::spill;
using wedge::test::TempDir;
namespace fs = std::filesystem;

namespace {

// results.json as the PyTorch reproduction writes it: the reference's keys and no other.
const char* const kPyTorch =
    R"({"strategy": "grassmann", "num_params": 12607168, "best_val_loss": 23.539, "best_val_ppl": 16700000000.0,
        "train_losses": [38.1, 25.9, 22.0], "val_losses": [27.661, 23.88, 23.539],
        "config": {"model": {"num_layers": 6}, "trainer": {"lr": 0.001}}})";

void put(const fs::path& folder, const std::string& text) {
  fs::create_directories(folder);
  spill(folder / "results.json", text);
}

}  // namespace

TEST_CASE("summarize: a tree of results in natural order", "[apps]") {
  const TempDir temp;
  put(temp / "x/10_grassmann", kPyTorch);
  put(temp / "x/2_grassmann", kPyTorch);
  put(temp / "a", R"({"strategy": "attention", "num_params": 5, "best_val_loss": 1})");
  const auto results = find_results(temp.path());
  REQUIRE(results.size() == 3);
  CHECK(results[0].label == "a");
  CHECK(results[1].label == "x/2_grassmann");
  CHECK(results[2].label == "x/10_grassmann");
  CHECK(results[2].result.val_losses == std::vector<double>{27.661, 23.88, 23.539});
  CHECK(!results[2].result.tokens_per_second.has_value());
}

TEST_CASE("summarize: a result is written and read back", "[apps]") {
  const TempDir temp;
  RunResult result;
  result.strategy = "attention";
  result.num_params = 7;
  result.best_val_loss = 0.1;
  result.train_losses = {1.0 / 3, 0.2};
  result.val_losses = {0.1, 0.3};
  result.tokens_per_second = 12.5;
  result.floor = 0.05;
  result.corpus = "0123abcd";
  result.config = to_json(Config{});
  put(temp.path(), to_json(result).dump());
  const RunResult copy = read_result(temp / "results.json");
  CHECK(to_json(copy) == to_json(result));
  CHECK(copy.train_losses == result.train_losses);
  result.best_val_loss = 800;  // whose exponential no double holds
  CHECK(Json::parse(to_json(result).dump())["best_val_ppl"].is_null());
}

TEST_CASE("summarize: bad files are named with what is wrong", "[apps]") {
  const auto fails = [](const std::string& text, const std::string& why) {
    const TempDir temp;
    put(temp / "run", text);
    INFO(text);
    CHECK_THROWS_WITH(find_results(temp.path()),
                      ContainsSubstring("run/results.json") && ContainsSubstring(why));
  };
  fails("", "not a JSON object");
  fails("[1]", "not a JSON object");
  fails("{", "not a JSON object");
  fails(R"({"num_params": 1, "best_val_loss": 1})", "strategy is missing");
  fails(R"({"strategy": 3, "num_params": 1, "best_val_loss": 1})", "strategy must be");
  fails(R"({"strategy": "a", "best_val_loss": 1})", "num_params is missing");
  fails(R"({"strategy": "a", "num_params": 1.5, "best_val_loss": 1})", "num_params must be");
  fails(R"({"strategy": "a", "num_params": 18446744073709551615, "best_val_loss": 1})", "num_params must be");
  fails(R"({"strategy": "a", "num_params": 1})", "best_val_loss is missing");
  fails(R"({"strategy": "a", "num_params": 1, "best_val_loss": null})", "best_val_loss must be a number");
  fails(R"({"strategy": "a", "num_params": 1, "best_val_loss": NaN})", "not a JSON object");
  fails(R"({"strategy": "a", "num_params": 1, "best_val_loss": 1, "val_losses": 3})", "val_losses must be");
  fails(R"({"strategy": "a", "num_params": 1, "best_val_loss": 1, "corpus": 3})", "corpus must be");
}

TEST_CASE("summarize: no folder, no results", "[apps]") {
  const TempDir temp;
  CHECK_THROWS_WITH(find_results(temp.path()), ContainsSubstring("no results.json"));
  CHECK_THROWS_WITH(find_results(temp / "none"), ContainsSubstring("is not a folder"));
}

TEST_CASE("summarize: links to folders are followed, in no circle", "[apps]") {
  const TempDir temp;
  put(temp / "elsewhere/x/0_grassmann", kPyTorch);
  put(temp / "tree/1_grassmann", kPyTorch);
  put(temp / "tree/1_grassmann/below", kPyTorch);
  fs::create_directory_symlink("../elsewhere/x/0_grassmann", temp / "tree/a");
  fs::create_directory_symlink("1_grassmann", temp / "tree/0_again");  // is there already
  fs::create_directory_symlink("..", temp / "tree/up");                // holds all this
  fs::create_directory_symlink(".", temp / "tree/self");
  fs::create_directory_symlink("../../tree", temp / "elsewhere/x/back");  // from below a link
  fs::create_directory_symlink("../elsewhere", temp / "tree/z");
  fs::create_directory_symlink("nowhere", temp / "tree/broken");
  std::vector<std::string> labels;
  for (const LabelledResult& found : find_results(temp / "tree")) labels.push_back(found.label);
  CHECK(labels == std::vector<std::string>{"1_grassmann", "1_grassmann/below", "a"});
  // The root itself may be one.
  fs::create_directory_symlink("tree", temp / "link");
  CHECK(find_results(temp / "link").size() == 3);
}

TEST_CASE("summarize: the folder that cannot be read is named, unless a link led there", "[apps]") {
  const TempDir temp;
  put(temp / "tree/run", kPyTorch);
  fs::create_directories(temp / "tree/closed");
  fs::permissions(temp / "tree/closed", fs::perms::none);
  std::error_code error;
  if (fs::directory_iterator(temp / "tree/closed", error); !error) {
    WARN("skipped: this user reads all folders");
    return;
  }
  CHECK_THROWS_WITH(find_results(temp / "tree"),
                    ContainsSubstring("cannot read " + (temp / "tree/closed").string() + ": "));
  fs::create_directories(temp / "other");
  put(temp / "other/run", kPyTorch);
  fs::create_directory_symlink(temp / "tree", temp / "other/link");
  CHECK(find_results(temp / "other").size() == 2);
  fs::permissions(temp / "tree/closed", fs::perms::owner_all);
}

TEST_CASE("summarize: runs are called by their folders", "[apps]") {
  CHECK(label_of("tie/0_attention", "tie/", false) == "0_attention");
  CHECK(label_of("tie/0_attention", "tie/", true) == "tie/0_attention");
  CHECK(label_of("tie", "tie/", true) == "tie");
  CHECK(label_of("a/tie", "a/tie/", false) == "tie");
  CHECK(label_of("./x", ".", false) == "x");
  CHECK(label_of("./x", ".", true) == "x");
  CHECK(label_of(".", ".", false) == fs::current_path().filename().string());
}

TEST_CASE("summarize: copies of a multirun's runs beside them are left out", "[apps][command]") {
  const TempDir temp;
  const fs::path cwd = temp / "cwd", many = cwd / "tree/many";
  for (const char* name : {"0_grassmann", "1_grassmann", "0_grassmann.bak", "1_grassmann_old", "mine"})
    put(many / name, kPyTorch);
  put(cwd / "tree/0_grassmann.bak", kPyTorch);  // in no multirun
  const auto labels = [&](const fs::path& root) {
    std::vector<std::string> found;
    for (const LabelledResult& result : find_results(root)) found.push_back(result.label);
    return found;
  };
  CHECK(labels(many).size() == 5);  // no multirun either
  spill(many / "multirun.json", "{\"runs\":2}\n");
  CHECK(labels(cwd / "tree") ==
        std::vector<std::string>{"0_grassmann.bak", "many/0_grassmann", "many/1_grassmann", "many/mine"});
  const auto outcome = test::run_wedge(cwd, {"summarize", "tree"});
  CHECK(outcome.status == 0);
  CHECK(outcome.err ==
        "wedge: many/0_grassmann.bak is left out: it is no run of the multirun around it but looks like a "
        "copy of one\n"
        "wedge: many/1_grassmann_old is left out: it is no run of the multirun around it but looks like a "
        "copy of one\n");
  // Named itself, it is what was asked for.
  CHECK(labels(many / "0_grassmann.bak") == std::vector<std::string>{"0_grassmann.bak"});
  CHECK(test::run_shell(many / "0_grassmann.bak", "\"$wedge\" summarize .").status == 0);
  const auto both = test::run_wedge(many, {"summarize", ".", "0_grassmann.bak"});
  CHECK_THAT(both.out, ContainsSubstring("0_grassmann.bak"));
  CHECK_THAT(both.err, !ContainsSubstring("0_grassmann.bak"));
}

TEST_CASE("summarize: the command prints the table and writes it", "[apps][command]") {
  const TempDir temp;
  const fs::path cwd = temp / "cwd";
  fs::create_directories(cwd);
  put(cwd / "tree/run", kPyTorch);
  const auto outcome = test::run_wedge(cwd, {"summarize", "--root", "tree", "--out", "table.md"});
  CHECK(outcome.status == 0);
  CHECK(outcome.err.empty());
  CHECK_THAT(outcome.out, ContainsSubstring("GrassmannLM") && ContainsSubstring("23.5390"));
  CHECK(test::slurp(cwd / "table.md") == outcome.out);
  CHECK(test::run_wedge(cwd, {"summarize", "--root=tree", "--out=other.md"}).status == 0);
  CHECK(test::slurp(cwd / "other.md") == outcome.out);

  // Folders are named as for plot and report.
  CHECK(test::run_wedge(cwd, {"summarize", "tree"}).out == outcome.out);
  put(cwd / "other", kPyTorch);
  const auto both = test::run_wedge(cwd, {"summarize", "tree", "other"});
  CHECK(both.status == 0);
  CHECK_THAT(both.out, ContainsSubstring("| tree/run ") && ContainsSubstring("| other "));
  CHECK(test::run_wedge(cwd, {"summarize", "tree/", "other/"}).out == both.out);

  // Of a link, what it leads to is written.
  fs::create_directories(cwd / "elsewhere");
  fs::create_symlink("elsewhere/table.md", cwd / "link.md");
  const auto nowhere = test::run_wedge(cwd, {"summarize", "--root", "tree", "--out", "link.md"});
  CHECK(nowhere.status == 2);
  CHECK_THAT(nowhere.err, ContainsSubstring("link.md: cannot write: a link that leads nowhere"));
  spill(cwd / "elsewhere/table.md", "of before");
  CHECK(test::run_wedge(cwd, {"summarize", "--root", "tree", "--out", "link.md"}).status == 0);
  CHECK(fs::is_symlink(cwd / "link.md"));
  CHECK(test::slurp(cwd / "elsewhere/table.md") == outcome.out);

  // Into the stream itself, whatever it leads to; twice, as it is printed too.
  const std::string twice = outcome.out + outcome.out;
  fs::create_symlink("/dev/stdout", cwd / "output");
  for (const char* out :
       {"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1", "output"}) {
    const std::string line = std::string(R"("$wedge" summarize tree --out )") + out;
    CHECK(test::run_shell(cwd, "(echo header; " + line + "; echo footer) > log; cat log").out ==
          "header\n" + twice + "footer\n");
    CHECK(test::run_shell(cwd, line + " | cat").out == twice);
  }
  fs::remove(cwd / "output");
  CHECK(test::run_shell(cwd, R"("$wedge" summarize tree --out /dev/null)").out == outcome.out);
  const auto unread = test::run_shell(cwd, R"(mkfifo pipe; "$wedge" summarize tree --out pipe)");
  CHECK(unread.status == 2);
  CHECK_THAT(unread.err, ContainsSubstring("pipe: cannot write: "));
  CHECK(test::run_shell(cwd,
                        R"(timeout 20 cat pipe & for n in $(seq 500); do
               "$wedge" summarize tree --out pipe > /dev/null 2>&1 && break; sleep 0.01; done; wait)")
            .out == outcome.out);
  fs::remove(cwd / "pipe");

  // A tree with a broken file leaves the table of before as it was.
  put(cwd / "tree/broken", "{");
  const auto before = test::snapshot(cwd);
  const auto failed = test::run_wedge(cwd, {"summarize", "--root", "tree", "--out", "table.md"});
  CHECK(failed.status == 2);
  CHECK(test::is_one_error_line(failed.err));
  CHECK(test::snapshot(cwd) == before);
}
