#include "data/wordpiece.h"

#include "data/text_codec.h"
#include "data/text_source.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace wedge;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  // A vocabulary of the input's, up to an empty line; the rest is text.
  const std::size_t split = std::min(input.find("\n\n"), input.size());
  const std::string_view text = split < input.size() ? input.substr(split + 2) : std::string_view();
  const auto check = [&](const data::WordPiece& tokenizer) {
    std::vector<std::int32_t> ids = {7};
    const bool encoded = fuzz::allowed([&] { tokenizer.encode(text, ids); });
    fuzz::require(ids.front() == 7 && (encoded || ids.size() == 1), "encode changed what was there");
    data::Detokenizer text_of = data::make_detokenizer(tokenizer.vocabulary());
    for (std::size_t i = 1; i < ids.size(); ++i) {
      fuzz::require(ids[i] >= 0 && ids[i] < std::ssize(tokenizer.vocabulary()), "an id out of range");
      text_of(ids[i]);
    }
    fuzz::allowed([&] { encode_rows(tokenizer, {std::string(text), std::string(text)}); });
  };
  static const data::WordPiece fixed({"[UNK]", "the", "##s", "a", "##b", "1", ".", "@", "-", "\xc3\xa4"});
  check(fixed);
  const auto path = fuzz::as_file(input.substr(0, split));
  fuzz::allowed([&] { check(data::WordPiece::from_file(path)); });
  const auto text_path = fuzz::as_file(text, "text");
  fuzz::allowed([&] { data::read_text_rows(text_path, {}); });
  fuzz::allowed([&] { data::encode_text(text, {}, 100); });
  return 0;
}
