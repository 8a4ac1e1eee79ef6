#include "data/text_codec.h"

#include "data/builtin_corpus.h"
#include "tensor/check.h"
#include "tests/support/catch.h"

using namespace wedge::data;
using Catch::Matchers::ContainsSubstring;
using wedge::Error;

namespace {

std::string decode(const std::vector<std::int32_t>& ids, const std::vector<std::string>& vocabulary) {
  Detokenizer text_of = make_detokenizer(vocabulary);
  std::string text;
  for (const std::int32_t id : ids) text += text_of(id);
  return text + text_of({});
}

}  // namespace

TEST_CASE("text codec: the built-in corpus comes back from its text", "[data][codec]") {
  const auto& vocabulary = builtin_vocabulary();
  const std::vector<std::int32_t> tokens = builtin_corpus(Split::train, 200).tokens;
  const std::string text = decode(tokens, vocabulary);
  CHECK(text == builtin_text(tokens));
  CHECK(encode_text(text, vocabulary, std::ssize(vocabulary)) == tokens);
  CHECK(encode_text("ANNA kept  a\nlamp.<p>", vocabulary, 0) ==
        encode_text("Anna kept a lamp .\n\n", vocabulary, 0));
  CHECK(encode_text("", vocabulary, 0).empty());
  CHECK_THROWS_WITH(encode_text("Anna kept a quark", vocabulary, 0),
                    "'quark' is no word of the built-in corpus");
  CHECK_THROWS_AS(encode_text("Anna kept 3", vocabulary, 0), Error);
  // Bytes beyond ASCII belong to their word, whether char has a sign or not.
  CHECK_THROWS_WITH(encode_text("l\xc3\xa4mp \xff", vocabulary, 0),
                    "'l\xc3\xa4mp' is no word of the built-in corpus");
}

TEST_CASE("text codec: numbers, where there is no vocabulary", "[data][codec]") {
  CHECK(encode_text(" 3, 0\n11 ", {}, 12) == std::vector<std::int32_t>{3, 0, 11});
  CHECK(decode({3, 0, 11}, {}) == "3 0 11");
  for (const char* wrong : {"12", "-1", "x", "3.5", "1e1", "99999999999"})
    CHECK_THROWS_WITH(encode_text(wrong, {}, 12),
                      ContainsSubstring("expected token ids from 0 to 11, got '" + std::string(wrong) + "'"));
}

TEST_CASE("text codec: WordPiece's pieces make words, and punctuation stands where it does in print",
          "[data][codec]") {
  const std::vector<std::string> vocabulary = {"[UNK]", "the", "river", "##s", "rise", ".", ",",
                                               "(",     ")",   "'",     "s",   "-",    "@", "well",
                                               "known", "2",   "500",   "@@",  "##"};
  const auto round = [&](const std::string& text) {
    return decode(encode_text(text, vocabulary, std::ssize(vocabulary)), vocabulary);
  };
  CHECK(round("The rivers ( the river's ) rise , rise .") == "the rivers (the river's) rise, rise.");
  CHECK(round("well @-@ known 2 @,@ 500 @.@ 2") == "well-known 2,500.2");
  CHECK(round("well - known") == "well - known");
  CHECK(round("well @ known @") == "well @ known @");
  CHECK(round("well @- known") == "well-known");  // no way to know by then
  CHECK(round("unheard rise") == "[UNK] rise");
  CHECK(decode({3, 3, 1}, vocabulary) == "ss the");
  CHECK(decode({18, 1}, vocabulary) == "## the");
  // What was held back is not said again by what follows.
  Detokenizer text_of = make_detokenizer(vocabulary);
  CHECK(text_of(12).empty());
  CHECK(text_of({}) == "@");
  CHECK(text_of({}).empty());
  CHECK(text_of(11) == " -");
  CHECK(text_of(12).empty());
  CHECK(text_of(13) == " @ well");
}
