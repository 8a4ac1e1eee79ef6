#include "data/text_source.h"

#include <fstream>

#include "tensor/check.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/support/threads.h"

using namespace wedge;
using namespace wedge::data;
using namespace std::string_literals;
using Catch::Matchers::ContainsSubstring;
using Rows = std::vector<std::string>;

namespace {

std::filesystem::path write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

}  // namespace

TEST_CASE("text: a row is a line, ended by a line feed only", "[data]") {
  test::TempDir folder;
  std::filesystem::path path = folder / "rows.raw";
  CHECK(read_text_rows(write(path, ""), std::nullopt).empty());
  CHECK(read_text_rows(write(path, "\n"), std::nullopt) == Rows{""});
  CHECK(read_text_rows(write(path, " a \n\n b"), std::nullopt) == Rows{" a ", "", " b"});
  CHECK(read_text_rows(write(path, " a \n\n b\n"), std::nullopt) == Rows{" a ", "", " b"});
  CHECK(read_text_rows(write(path, "a\rb\r\nc\u2028d\x0c\0e\n"s), std::nullopt) ==
        Rows{"a\rb\r", "c\u2028d\x0c\0e"s});
}

TEST_CASE("text: max_rows takes the first rows", "[data]") {
  test::TempDir folder;
  std::filesystem::path path = write(folder / "rows.raw", "a\n\nb\n");
  CHECK(read_text_rows(path, 0).empty());
  CHECK(read_text_rows(path, 2) == Rows{"a", ""});
  CHECK(read_text_rows(path, 3) == Rows{"a", "", "b"});
  CHECK(read_text_rows(path, 1000) == Rows{"a", "", "b"});
  CHECK_THROWS_WITH(read_text_rows(path, -1), path.string() + ": expected 0 rows or more, got -1");
}

TEST_CASE("text: a file that cannot be read is an error with its path", "[data]") {
  test::TempDir folder;
  CHECK_THROWS_WITH(read_text_rows(folder / "none.raw", std::nullopt),
                    (folder / "none.raw").string() + ": cannot read the file");
  CHECK_THROWS_WITH(read_text_rows(folder.path(), std::nullopt), ContainsSubstring("cannot read"));
}

TEST_CASE("text: rows give the ids of their text joined with blank lines, on any number of threads",
          "[data]") {
  WordPiece tokenizer({"[UNK]", "a", "##b", "##c", "=", "中", "e", "##\U0001d165", "\U0001d165"});
  Rows pieces{"",           " ",     "abc", " a = ab", "中a", "É", "ab中", "a\U0001d16d\U0001d165",
              "\U0001d165", "acb\r", "zz"};
  Rows rows;
  std::string joined;
  for (size_t i = 0; i < 500; ++i) {
    rows.push_back(pieces[i * i % 7 + i % 5]);
    if (i > 0) joined += "\n\n";
    joined += rows.back();
  }
  std::vector<int32_t> expected;
  tokenizer.encode(joined, expected);
  REQUIRE(expected.size() > 500);
  for (int count : {1, 2, 3, 7, 64}) {
    INFO(count << " threads");
    Threads threads(count);
    CHECK(encode_rows(tokenizer, rows) == expected);
  }
  CHECK(encode_rows(tokenizer, {}).empty());
  CHECK(encode_rows(tokenizer, {"abc"}) == std::vector<int32_t>{1, 2, 3});
}

TEST_CASE("text: invalid UTF-8 names the first such row", "[data]") {
  WordPiece tokenizer({"[UNK]", "a"});
  Rows rows(100, "a a");
  rows[41] = std::string("a \xff");
  rows[40] = std::string("aé\xc3");
  rows[99] = std::string("\x80");
  for (int count : {1, 2, 5}) {
    Threads threads(count);
    CHECK_THROWS_WITH(encode_rows(tokenizer, rows), "row 41: invalid UTF-8 at byte offset 3");
  }
  // Two halves of one character do not join across rows.
  CHECK_THROWS_WITH(encode_rows(tokenizer, {"a", "\xc3", "\xa9"}), "row 2: invalid UTF-8 at byte offset 0");
}
