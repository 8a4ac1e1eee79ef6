#include "apps/run_dir.h"

#include "tensor/check.h"
#include "tests/apps/command_runner.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::app;
using wedge::test::spill;
using wedge::test::TempDir;
namespace fs = std::filesystem;

namespace {

// The current folder, changed for one test's length.
class WorkingFolder {
 public:
  explicit WorkingFolder(const fs::path& path) : before_(fs::current_path()) { fs::current_path(path); }
  ~WorkingFolder() { fs::current_path(before_); }

 private:
  fs::path before_;
};

Config with_run_dir(const fs::path& path) {
  Config config;
  config.experiment.run_dir = path.string();
  return config;
}

constexpr std::time_t kNow = 1771840000;  // 2026-02-23

}  // namespace

TEST_CASE("run folder: default names, and two runs in one second do not meet", "[apps]") {
  const TempDir temp;
  const WorkingFolder here(temp.path());
  Config config;
  config.model.tensor_lifting_strategy = "grassmann";
  const RunFolder first = make_single_folder(config, kNow), second = make_single_folder(config, kNow);
  CHECK(first.path.parent_path() == second.path.parent_path());
  CHECK(first.path.parent_path().parent_path() == fs::path("runs/single"));
  CHECK(first.path != second.path);
  CHECK(fs::is_directory(first.path));
  CHECK(fs::is_directory(second.path));
  const std::string date = first.path.parent_path().filename().string();
  CHECK(date.starts_with("2026-02-2"));  // the time zone decides between the 22nd, 23rd and 24th
  CHECK(date.size() == 10);
  const std::string name = first.path.filename().string();
  CHECK(name.substr(8) == "_grassmann");
  CHECK(name[2] == '-');
  CHECK(name[5] == '-');
  CHECK(second.path.filename().string() == name + "_2");

  const fs::path above = make_multirun_folder(config, kNow), other = make_multirun_folder(config, kNow);
  CHECK(above != other);
  CHECK(above.parent_path().parent_path() == fs::path("runs/multirun"));
  CHECK(make_multirun_member(above, 3, config).path == above / "3_grassmann");
  CHECK(fs::is_directory(above / "3_grassmann"));
}

TEST_CASE("run folder: experiment.run_dir is made with its parents", "[apps]") {
  const TempDir temp;
  const Config config = with_run_dir(temp / "a/b/c");
  CHECK_NOTHROW(check_run_folders({config}, false));
  CHECK(!fs::exists(temp / "a"));  // checking makes nothing
  CHECK(make_single_folder(config, kNow).path == temp / "a/b/c");
  CHECK(fs::is_directory(temp / "a/b/c"));
}

TEST_CASE("run folder: a folder with a checkpoint is refused", "[apps]") {
  const TempDir temp;
  fs::create_directories(temp / "run");
  fs::create_directories(temp / "many/1_attention");
  spill(temp / "run/notes.txt", "mine");
  CHECK_NOTHROW(check_run_folders({with_run_dir(temp / "run")}, false));
  spill(temp / "run/any.safetensors", "x");
  CHECK_THROWS_AS(check_run_folders({with_run_dir(temp / "run")}, false), Error);
  CHECK_THROWS_AS(check_run_folders({with_run_dir(temp / "run")}, true), Error);

  const std::vector<Config> two(2, with_run_dir(temp / "many"));
  CHECK_NOTHROW(check_run_folders(two, true));
  spill(temp / "many/1_attention/last.safetensors", "x");
  CHECK_THROWS_AS(check_run_folders(two, true), Error);
  // A run that would be called 0_attention stays out too: its table would replace the earlier one.
  CHECK_THROWS_AS(check_run_folders({two[0]}, true), Error);
}

TEST_CASE("run folder: a file of the user's that is named like a run keeps no single run out", "[apps]") {
  const TempDir temp;
  fs::create_directories(temp / "run");
  spill(temp / "run/2_notes.txt", "mine");
  CHECK_NOTHROW(check_run_folders({with_run_dir(temp / "run")}, false));
}

TEST_CASE("run folder: it is for the first that claims it", "[apps]") {
  const TempDir temp;
  const Config single = with_run_dir(temp / "single"), many = with_run_dir(temp / "many");
  for (const Config* config : {&single, &many}) make_single_folder(*config, kNow);
  claim_single_folder({temp / "single"}, single);
  CHECK_THROWS_AS(claim_single_folder({temp / "single"}, single), Error);
  CHECK_THROWS_AS(claim_multirun_folder(temp / "single", {single, single}), Error);
  CHECK_FALSE(fs::exists(temp / "single/multirun.json"));
  claim_multirun_folder(temp / "many", {many, many});
  CHECK_THROWS_AS(claim_multirun_folder(temp / "many", {many, many}), Error);
  CHECK_THROWS_AS(claim_single_folder({temp / "many"}, many), Error);
  CHECK_FALSE(fs::exists(temp / "many/config.json"));
}

TEST_CASE("run folder: what is no folder is refused", "[apps]") {
  const TempDir temp;
  spill(temp / "file", "x");
  CHECK_THROWS_AS(check_run_folders({with_run_dir(temp / "file")}, false), Error);
  CHECK_THROWS_AS(check_run_folders({with_run_dir(temp / "file/below/it")}, false), Error);
  CHECK_THROWS_AS(check_run_folders({with_run_dir(temp / "a"), with_run_dir(temp / "b")}, true), Error);
}
