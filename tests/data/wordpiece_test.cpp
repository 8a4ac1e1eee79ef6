#include "data/wordpiece.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "data/text_source.h"
#include "data/unicode.h"
#include "tensor/check.h"
#include "tensor/json.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::data;
using namespace std::string_literals;
using Catch::Matchers::ContainsSubstring;
using Ids = std::vector<int32_t>;

namespace {

Ids encode(const WordPiece& tokenizer, std::string_view text) {
  Ids ids;
  tokenizer.encode(text, ids);
  return ids;
}

std::filesystem::path write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

}  // namespace

TEST_CASE("wordpiece: ids are those of Hugging Face tokenizers", "[data]") {
  std::ifstream file(std::filesystem::path(WEDGE_GOLDENS) / "tokenizer.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  WordPiece tokenizer(golden["vocab"].get<std::vector<std::string>>());
  REQUIRE(golden["cases"].size() > 100);
  for (const auto& entry : golden["cases"]) {
    auto text = entry["text"].get<std::string>();
    INFO(entry.dump());
    CHECK(encode(tokenizer, text) == entry["ids"].get<Ids>());
  }
}

TEST_CASE("wordpiece: the longest piece wins, and a word that cannot be finished is one [UNK]", "[data]") {
  WordPiece tokenizer({"[UNK]", "a", "ab", "abc", "##c", "##cd", "##d", "##", "x", "[", "]", "mask"});
  CHECK(encode(tokenizer, "abc abcd abd a") == Ids{3, 3, 6, 2, 6, 1});
  CHECK(encode(tokenizer, "abcdcd") == Ids{3, 6, 5});
  // The piece "##" stands for no text, so it does not help where nothing continues.
  CHECK(encode(tokenizer, "xa abx") == Ids{0, 0});
  CHECK(encode(tokenizer, "d") == Ids{0});
  CHECK(encode(tokenizer, "[MASK][UNK]") == Ids{9, 11, 10, 9, 0, 10});
  CHECK(encode(tokenizer, "").empty());
  CHECK(encode(tokenizer, " \t\r\n\u00a0\u3000\x01\0"s).empty());

  WordPiece no_continuation({"[UNK]", "a", "#"});
  CHECK(encode(no_continuation, "a aa #a##") == Ids{1, 0, 2, 1, 2, 2});
}

TEST_CASE("wordpiece: words of more than 100 code points are [UNK]", "[data]") {
  WordPiece tokenizer({"[UNK]", "a", "##a", "é", "e", "##e", "ᄀ", "##ᄀ", "##ᅡ"});
  auto repeated = [](std::string_view text, int times) {
    std::string result;
    for (int i = 0; i < times; ++i) result += text;
    return result;
  };
  CHECK(encode(tokenizer, repeated("a", 100)).size() == 100);
  CHECK(encode(tokenizer, repeated("a", 101)) == Ids{0});
  CHECK(encode(tokenizer, repeated("é", 100)).size() == 100);  // 200 code points before the accents go
  CHECK(encode(tokenizer, repeated("é", 101)) == Ids{0});
  CHECK(encode(tokenizer, repeated("가", 50)).size() == 100);  // two code points each, decomposed
  CHECK(encode(tokenizer, repeated("가", 51)) == Ids{0});
}

TEST_CASE("wordpiece: characters whose class has changed since Unicode 8", "[data]") {
  WordPiece tokenizer({"[UNK]", "a", "b", "##b", "\u166d", "\U000111c9", "##\u1885", "##\u1886", "##\ua9bd"});
  CHECK(encode(tokenizer, "a\u166db") == Ids{1, 4, 2});      // was punctuation
  CHECK(encode(tokenizer, "a\U000111c9b") == Ids{1, 5, 2});  // was punctuation
  CHECK(encode(tokenizer, "a\u1734b") == Ids{1, 3});         // was an accent
  CHECK(encode(tokenizer, "a\U0001171eb") == Ids{1, 3});     // was an accent
  CHECK(encode(tokenizer, "a\u1885b") == Ids{1, 6, 3});      // was none
  CHECK(encode(tokenizer, "a\u1886b") == Ids{1, 7, 3});
  CHECK(encode(tokenizer, "a\ua9bdb") == Ids{1, 8, 3});
}

TEST_CASE("wordpiece: marks that stay come in canonical order", "[data]") {
  // U+1D165 has combining class 216, U+1D16D 226; U+0316 (220) is an accent and goes. A dropped character
  // between marks does not part them; a letter does.
  WordPiece tokenizer({"[UNK]", "a", "##\U0001d165", "##\U0001d16d", "##b", "\U0001d165", "\U0001d16d"});
  CHECK(encode(tokenizer, "a\U0001d16d\U0001d165") == Ids{1, 2, 3});
  CHECK(encode(tokenizer, "a\U0001d16d\u0316\u200d\x01\U0001d165") == Ids{1, 2, 3});
  CHECK(encode(tokenizer, "a\U0001d16db\U0001d165") == Ids{1, 3, 4, 2});
  CHECK(encode(tokenizer, "a\U0001d16d \U0001d165") == Ids{1, 3, 5});
  CHECK(encode(tokenizer, "\U0001d16d\U0001d165") == Ids{5, 3});
}

TEST_CASE("wordpiece: invalid UTF-8 is an error that names the byte", "[data]") {
  WordPiece tokenizer({"[UNK]", "a", "é"});
  auto [text, offset] = GENERATE(table<std::string, int>({
      {"\x80", 0},                  // a continuation byte alone
      {"a\xff", 1},                 // no byte of UTF-8
      {"aé \xc3", 4},               // cut short at the end
      {"a \xe4\xb8 a", 2},          // cut short in the middle
      {"\xc0\x80", 0},              // overlong
      {"\xe0\x80\xaf", 0},          // overlong
      {"a\xed\xa0\x80", 1},         // a surrogate
      {"aa\xf4\x90\x80\x80 a", 2},  // beyond U+10FFFF
  }));
  Ids ids{7};
  CHECK_THROWS_WITH(tokenizer.encode(text, ids), "invalid UTF-8 at byte offset " + std::to_string(offset));
  CHECK(ids == Ids{7});
  CHECK(find_invalid_utf8(text) == offset);
}

TEST_CASE("wordpiece: a vocabulary file has one piece a line, with either line ending", "[data]") {
  test::TempDir folder;
  std::vector<std::string> expected{"[UNK]", "a", "##é"};
  for (const char* bytes : {"[UNK]\na\n##é\n", "[UNK]\na\n##é", "[UNK]\r\na\r\n##é\r\n"}) {
    CHECK(WordPiece::from_file(write(folder / "vocab.txt", bytes)).vocabulary() == expected);
  }
}

TEST_CASE("wordpiece: a bad vocabulary is refused with its path and line", "[data]") {
  test::TempDir folder;
  auto [bytes, reason] = GENERATE(table<std::string, std::string>({
      {"", "no entries"},
      {"a\nb\n", "[UNK] is not among the 2 entries"},
      {"[UNK]\na\nb\na\n", "line 4 repeats line 2 ('a')"},
      {"[UNK]\na\n\nb\n", "line 3 is empty"},
      {"[UNK]\nab\xff\n", "line 2 is not UTF-8 (byte offset 2)"},
  }));
  std::filesystem::path path = write(folder / "vocab.txt", bytes);
  CHECK_THROWS_WITH(WordPiece::from_file(path), path.string() + ": vocabulary: " + reason);
  CHECK_THROWS_WITH(WordPiece::from_file(folder / "none.txt"), ContainsSubstring("none.txt: cannot read"));
  CHECK_THROWS_WITH(WordPiece::from_file(folder.path()), ContainsSubstring("cannot read"));
  CHECK_THROWS_AS(WordPiece({}), Error);
}

TEST_CASE("wordpiece: token counts of WikiText-2", "[data]") {
  const char* root = std::getenv("WEDGE_DATA");
  std::filesystem::path data = root ? root : "";
  auto [file, max_rows, tokens] = GENERATE(table<std::string, std::optional<int64_t>, size_t>({
      {"wiki.train.part.raw", 800, 45854},
      {"wiki.valid.raw", 200, 12884},
      {"wiki.valid.raw", std::nullopt, 238656},
      {"wiki.test.raw", std::nullopt, 273178},
      {"wiki.train.part.raw", std::nullopt, 209626},
  }));
  std::filesystem::path rows = data / "wikitext-2-raw-v1" / file;
  if (!root || !std::filesystem::exists(rows)) {
    std::printf("skipped: no %s in $WEDGE_DATA\n", file.c_str());
    return;
  }
  WordPiece tokenizer = WordPiece::from_file(data / "bert-base-uncased" / "vocab.txt");
  CHECK(tokenizer.vocabulary().size() == 30522);
  CHECK(encode_rows(tokenizer, read_text_rows(rows, max_rows)).size() == tokens);
}
