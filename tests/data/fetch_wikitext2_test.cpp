// data/fetch_wikitext2.sh, offline: a manifest of file:// addresses stands in for the real one.
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

constexpr const char* kHello = "hello\n";
constexpr const char* kHelloSum = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
constexpr const char* kParquet = "PAR1....PAR1";

void write(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

size_t count_files(const fs::path& folder) {
  size_t count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) count += entry.is_regular_file();
  return count;
}

// A server's folder and a data folder (with a space in its name), and the script between them.
class Fetch {
 public:
  Fetch() {
    write(server() / "vocab.txt", kHello);
    write(server() / "rows.parquet", kParquet);
    manifest(line("bert/vocab.txt", kHelloSum, "vocab.txt") + line("wiki/rows.parquet", "-", "rows.parquet"));
  }

  fs::path server() const { return folder_ / "server"; }
  fs::path data() const { return folder_ / "my data"; }

  std::string line(const std::string& path, const std::string& sum, const std::string& file) const {
    return path + " " + sum + " file://" + (server() / file).string() + "\n";
  }
  void manifest(const std::string& lines) { write(folder_ / "manifest", lines); }

  // Exit status; what the script says is in output().
  int run(const std::string& arguments = "") {
    std::string command = "WEDGE_DATA='" + data().string() + "' WEDGE_FETCH_MANIFEST='" +
                          (folder_ / "manifest").string() +
                          "' bash '" WEDGE_SOURCE_DIR "/data/fetch_wikitext2.sh' " + arguments + " >'" +
                          (folder_ / "output").string() + "' 2>&1";
    int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string output() const { return read(folder_ / "output"); }

 private:
  test::TempDir folder_;
};

bool skip_without_curl() {
  bool missing = std::system("command -v curl >/dev/null 2>&1") != 0;
  if (missing) std::puts("skipped: curl is not installed");
  return missing;
}

}  // namespace

TEST_CASE("fetch_wikitext2: files arrive once, checked, and good ones are kept", "[data]") {
  if (skip_without_curl()) return;
  Fetch fetch;
  INFO(fetch.server());
  REQUIRE(fetch.run() == 0);
  CHECK(read(fetch.data() / "bert/vocab.txt") == kHello);
  CHECK(read(fetch.data() / "wiki/rows.parquet") == kParquet);
  CHECK(count_files(fetch.data()) == 2);

  fs::remove_all(fetch.server());  // nothing is downloaded again
  CHECK(fetch.run() == 0);
  CHECK_THAT(fetch.output(), ContainsSubstring("vocab.txt: already there"));
}

TEST_CASE("fetch_wikitext2: a damaged file is replaced", "[data]") {
  if (skip_without_curl()) return;
  Fetch fetch;
  write(fetch.data() / "bert/vocab.txt", "hell");
  write(fetch.data() / "wiki/rows.parquet", "PAR1, cut short");
  REQUIRE(fetch.run() == 0);
  CHECK(read(fetch.data() / "bert/vocab.txt") == kHello);
  CHECK(read(fetch.data() / "wiki/rows.parquet") == kParquet);
}

TEST_CASE("fetch_wikitext2: a bad download is an error and leaves nothing", "[data]") {
  if (skip_without_curl()) return;
  Fetch fetch;
  SECTION("another sum") {
    write(fetch.server() / "vocab.txt", "<html>");
    CHECK(fetch.run() == 1);
    CHECK_THAT(fetch.output(), ContainsSubstring("expected " + std::string(kHelloSum)));
    CHECK(count_files(fetch.data()) == 0);
  }
  SECTION("no Parquet file") {
    write(fetch.server() / "rows.parquet", "<html>PAR1");
    CHECK(fetch.run() == 1);
    CHECK_THAT(fetch.output(), ContainsSubstring("not a Parquet file"));
    CHECK(count_files(fetch.data()) == 1);
  }
  SECTION("no such file") {
    fs::remove(fetch.server() / "vocab.txt");
    CHECK(fetch.run() == 1);
    CHECK_THAT(fetch.output(), ContainsSubstring("cannot download file://"));
    CHECK(count_files(fetch.data()) == 0);
  }
  SECTION("a file that was there stays") {
    write(fetch.server() / "vocab.txt", "<html>");
    write(fetch.data() / "bert/vocab.txt", "mine");
    CHECK(fetch.run() == 1);
    CHECK(read(fetch.data() / "bert/vocab.txt") == "mine");
    CHECK(count_files(fetch.data()) == 1);
  }
}

TEST_CASE("fetch_wikitext2: help, and bad arguments", "[data]") {
  Fetch fetch;
  CHECK(fetch.run("--help") == 0);
  CHECK_THAT(fetch.output(),
             ContainsSubstring("WEDGE_DATA") && ContainsSubstring("train-00000-of-00001.parquet"));
  CHECK(fetch.run("--nonsense") == 1);
  CHECK_THAT(fetch.output(), ContainsSubstring("unknown argument '--nonsense'"));
  CHECK(!fs::exists(fetch.data()));
}
