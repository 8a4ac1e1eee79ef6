#include "data/parquet_source.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "data/text_source.h"
#include "data/wordpiece.h"
#include "tensor/check.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::data;
using Catch::Matchers::ContainsSubstring;

namespace {

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(WEDGE_GOLDENS) / name;
}

std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::filesystem::path write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

// What reading `path` is refused with; empty if it is not refused.
std::string refusal(const std::filesystem::path& path) {
  try {
    read_parquet_rows(path, std::nullopt);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

// True, with a word on the terminal, where this build cannot read Parquet: the tests of reading then end.
bool skip_without_parquet() {
  if (!parquet_available()) std::puts("skipped: this build has no Parquet");
  return !parquet_available();
}

// A vocabulary that cuts ASCII words into letters, so that a lost or added character shows.
WordPiece letters() {
  std::vector<std::string> vocabulary{"[UNK]"};
  for (char c = '!'; c <= '~'; ++c) {
    vocabulary.push_back(std::string(1, c));
    vocabulary.push_back(std::string("##") + c);
  }
  return WordPiece(vocabulary);
}

}  // namespace

TEST_CASE("parquet: a build without it says what is missing", "[data]") {
  if (parquet_available()) return;
  std::string message = refusal(golden("parquet_layout.parquet"));
  CHECK_THAT(message, ContainsSubstring("reads no Parquet") && ContainsSubstring("pyarrow") &&
                          ContainsSubstring("data=text"));
}

TEST_CASE("parquet: the published layout holds the rows of the text file", "[data]") {
  if (skip_without_parquet()) return;
  std::vector<std::string> text = read_text_rows(golden("parquet_rows.raw"), std::nullopt);
  std::vector<std::string> rows = read_parquet_rows(golden("parquet_layout.parquet"), std::nullopt);
  REQUIRE(text.size() == 34);
  REQUIRE(rows.size() == text.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    INFO("row " << i + 1);
    CHECK(rows[i] == (text[i] == " " ? "" : text[i] + "\n"));
  }
  WordPiece tokenizer = letters();
  std::vector<int32_t> ids = encode_rows(tokenizer, rows);
  CHECK(ids.size() > 1000);
  CHECK(ids == encode_rows(tokenizer, text));

  CHECK(read_parquet_rows(golden("parquet_large_string.parquet"), std::nullopt) == rows);
  CHECK(read_parquet_rows(golden("parquet_no_rows.parquet"), std::nullopt).empty());
}

TEST_CASE("parquet: max_rows takes the first rows, within a row group and across", "[data]") {
  if (skip_without_parquet()) return;
  std::filesystem::path path = golden("parquet_layout.parquet");  // row groups of 10 rows
  std::vector<std::string> all = read_parquet_rows(path, std::nullopt);
  for (size_t n : {0, 1, 9, 10, 11, 25, 33, 34, 35, 1000000}) {
    INFO(n << " rows");
    std::vector<std::string> first(all.begin(), all.begin() + std::min(n, all.size()));
    CHECK(read_parquet_rows(path, n) == first);
  }
  CHECK_THROWS_WITH(read_parquet_rows(path, -1), ContainsSubstring("got -1"));
}

TEST_CASE("parquet: a file of another shape is refused with its path and the reason", "[data]") {
  if (skip_without_parquet()) return;
  auto [file, reason] = GENERATE(table<std::string, std::string>({
      {"parquet_null_row.parquet", "row 3 is null"},
      {"parquet_other_column.parquet", "no column 'text'; the first is 'body'"},
      {"parquet_integers.parquet", "column 'text' must hold one string a row"},
      {"parquet_bytes.parquet", "column 'text' must hold one string a row"},
      {"parquet_lists.parquet", "no column 'text'"},
      {"parquet_nested.parquet", "no column 'text'; the first is 'text.text'"},
      {"parquet_rows.raw", "Parquet"},
      {"no_such_file.parquet", "Parquet"},
      {"", "Parquet"},
  }));
  std::string message = refusal(golden(file));
  CHECK_THAT(message, ContainsSubstring(golden(file).string()) && ContainsSubstring(reason));
  CHECK(std::count(message.begin(), message.end(), '\n') == 0);
}

TEST_CASE("parquet: a file cut short anywhere is refused", "[data]") {
  if (skip_without_parquet()) return;
  test::TempDir folder;
  std::string bytes = read_bytes(golden("parquet_layout.parquet"));
  REQUIRE(bytes.size() > 2000);
  for (size_t size = 0; size < bytes.size(); size += size < 16 || size + 64 > bytes.size() ? 1 : 41) {
    INFO("the first " << size << " of " << bytes.size() << " bytes");
    std::string message = refusal(write_bytes(folder / "cut.parquet", bytes.substr(0, size)));
    CHECK_THAT(message, ContainsSubstring("cut.parquet"));
    CHECK(std::count(message.begin(), message.end(), '\n') == 0);
  }
}

TEST_CASE("parquet: damaged pages and footers are refused", "[data]") {
  if (skip_without_parquet()) return;
  test::TempDir folder;
  const std::string bytes = read_bytes(golden("parquet_layout.parquet"));
  auto with_zeros = [&](size_t first, size_t count) {
    std::string damaged = bytes;
    damaged.replace(first, count, count, '\0');
    return refusal(write_bytes(folder / "damaged.parquet", damaged));
  };
  CHECK_THAT(with_zeros(4, 100), ContainsSubstring("damaged.parquet"));                   // first page
  CHECK_THAT(with_zeros(bytes.size() - 300, 200), ContainsSubstring("damaged.parquet"));  // footer
  CHECK_THAT(with_zeros(bytes.size() - 8, 4), ContainsSubstring("damaged.parquet"));      // footer's length
  CHECK_THAT(with_zeros(bytes.size() - 4, 4), ContainsSubstring("damaged.parquet"));      // magic
}
