#include "tensor/atomic_file.h"

#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "tensor/check.h"
#include "tests/support/catch.h"
#include "tests/support/files.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::test;
namespace fs = std::filesystem;

namespace {

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}

void put(AtomicFile& file, const std::string& text) {
  file.write(text.data(), text.size());
}

}  // namespace

TEST_CASE("atomic file: the old bytes until commit, then the new ones", "[tensor]") {
  const TempDir dir;
  const fs::path path = dir / "a";
  for (const std::string text : {"first", "second"}) {
    const std::string before = slurp(path);
    AtomicFile file(path);
    put(file, text.substr(0, 2));
    put(file, text.substr(2));
    CHECK(slurp(path) == before);
    file.commit();
    CHECK(slurp(path) == text);
    CHECK(files_in(dir.path()) == std::vector<fs::path>{path});
  }
}

TEST_CASE("atomic file: what is not committed leaves no trace", "[tensor]") {
  const TempDir dir;
  const fs::path path = dir / "a";
  {
    AtomicFile file(path);
    put(file, "half");
    REQUIRE(files_in(dir.path()).size() == 1);
    CHECK(AtomicFile::is_temporary(files_in(dir.path()).front()));
  }
  CHECK(files_in(dir.path()).empty());
  CHECK_FALSE(AtomicFile::is_temporary(path));
  CHECK_FALSE(AtomicFile::is_temporary("notes.tmp"));
  CHECK_FALSE(AtomicFile::is_temporary(".wedge-of-mine"));
  CHECK_FALSE(AtomicFile::is_temporary(".wedge-notes.tmp"));
}

TEST_CASE("atomic file: several of one path do not meet, and the last commit stays", "[tensor]") {
  const TempDir dir;
  const fs::path path = dir / "a";
  AtomicFile one(path), other(path);
  put(one, "one");
  put(other, "other");
  other.commit();
  CHECK(slurp(path) == "other");
  one.commit();
  CHECK(slurp(path) == "one");
}

TEST_CASE("atomic file: what cannot be replaced is refused before anything is made", "[tensor]") {
  const TempDir dir;
  const auto fails = [](const fs::path& path, const std::string& why) {
    std::optional<AtomicFile> file;
    CHECK_THROWS_WITH(file.emplace(path), path.string() + ": " + why);
  };
  fs::create_directory(dir / "folder");
  REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
  fails(dir / "folder", "cannot write: it is not a regular file");
  fails(dir / "pipe", "cannot write: it is not a regular file");
  fails(dir / "missing/a", "cannot create a file in its folder: No such file or directory");
  CHECK(files_in(dir.path()).size() == 2);
}

TEST_CASE("atomic file: a bare name is in the current folder", "[tensor]") {
  const TempDir dir;
  const fs::path before = fs::current_path();
  fs::current_path(dir.path());
  AtomicFile file("bare");
  put(file, "x");
  file.commit();
  fs::current_path(before);
  CHECK(slurp(dir / "bare") == "x");
}
