#include "data/text_codec.h"

#include <fmt/format.h>

#include <charconv>
#include <unordered_map>
#include <utility>

#include "data/builtin_corpus.h"
#include "data/unicode.h"
#include "data/wordpiece.h"
#include "tensor/check.h"

namespace wedge::data {

namespace {

std::vector<std::int32_t> encode_numbers(std::string_view text, std::int64_t vocab_size) {
  std::vector<std::int32_t> ids;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find_first_of(" ,\t\n", begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    begin = end + 1;
    if (word.empty()) continue;
    std::int32_t id = -1;
    const auto [stop, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    WEDGE_CHECK(error == std::errc() && stop == word.data() + word.size() && id >= 0 && id < vocab_size,
                "expected token ids from 0 to {}, got '{}'", vocab_size - 1, word);
    ids.push_back(id);
  }
  return ids;
}

std::string lower(std::string_view word) {
  std::string text(word);
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

std::vector<std::int32_t> encode_builtin(std::string_view text, const std::vector<std::string>& vocabulary) {
  std::unordered_map<std::string, std::int32_t> ids;
  for (std::size_t i = 0; i < vocabulary.size(); ++i)
    ids[lower(vocabulary[i])] = static_cast<std::int32_t>(i);
  std::vector<std::int32_t> result;
  const auto add = [&](std::string_view word) {
    const auto found = ids.find(lower(word));
    WEDGE_CHECK(found != ids.end(), "'{}' is no word of the built-in corpus", word);
    result.push_back(found->second);
  };
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80;
  };
  for (std::size_t i = 0; i < text.size();) {
    if (text.substr(i).starts_with("<p>") || text.substr(i).starts_with("\n\n")) {
      result.push_back(ids.at("<p>"));
      i += text[i] == '<' ? 3 : 2;
    } else if (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r') {
      ++i;
    } else {
      std::size_t end = i + 1;
      while (is_letter(text[i]) && end < text.size() && is_letter(text[end])) ++end;
      add(text.substr(i, end - i));
      i = end;
    }
  }
  return result;
}

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  for (const std::string_view candidate : words)
    if (word == candidate) return true;
  return false;
}

// Whether a word is one punctuation character.
bool is_punctuation_word(const std::string& word) {
  std::size_t end = 0;
  const std::int32_t code_point = word.empty() ? -1 : next_code_point(word, end);
  return code_point >= 0 && end == word.size() && is_punctuation(code_point);
}

class WordPieceText {
 public:
  explicit WordPieceText(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}

  std::string operator()(std::optional<std::int32_t> id) {
    const Escape before = std::exchange(escape_, Escape::none);
    if (!id) return before == Escape::sign ? spaced("@") : "";
    const std::string& piece = pieces_[static_cast<std::size_t>(*id)];
    if (before == Escape::sign && is_one_of(piece, {"-", ",", "."})) {
      escape_ = Escape::middle;
      glue_ = true;
      return piece;
    }
    if (before == Escape::middle && piece == "@") {
      glue_ = true;
      return {};
    }
    const std::string sign = before == Escape::sign ? spaced("@") : "";  // it was no escape
    if (piece == "@") {
      escape_ = Escape::sign;
      return sign;
    }
    if (piece.starts_with("##") && piece.size() > 2) {
      begun_ = true;
      return sign + piece.substr(2);
    }
    return sign + spaced(piece);
  }

 private:
  std::string spaced(const std::string& word) {
    const bool punctuation = is_punctuation_word(word);
    const bool closes =
        punctuation && is_one_of(word, {".", ",", ";", ":", "!", "?", ")", "]", "}", "%", "'", "’"});
    const bool space = begun_ && !glue_ && !closes;
    begun_ = true;
    glue_ = punctuation && is_one_of(word, {"(", "[", "{", "'", "’", "$", "#"});
    return (space ? " " : "") + word;
  }

  std::vector<std::string> pieces_;
  bool begun_ = false;
  bool glue_ = false;  // no space before the next word
  // Within "@-@": after the first @, which is not written before it is known what follows; after the middle.
  enum class Escape { none, sign, middle } escape_ = Escape::none;
};

}  // namespace

std::vector<std::int32_t> encode_text(std::string_view text, const std::vector<std::string>& vocabulary,
                                      std::int64_t vocab_size) {
  if (vocabulary.empty()) return encode_numbers(text, vocab_size);
  if (vocabulary == builtin_vocabulary()) return encode_builtin(text, vocabulary);
  std::vector<std::int32_t> ids;
  WordPiece(vocabulary).encode(text, ids);
  return ids;
}

Detokenizer make_detokenizer(const std::vector<std::string>& vocabulary) {
  if (vocabulary.empty())
    return [begun = false](std::optional<std::int32_t> id) mutable {
      return id ? (std::exchange(begun, true) ? " " : "") + std::to_string(*id) : "";
    };
  if (vocabulary == builtin_vocabulary())
    return [read = BuiltinReader()](std::optional<std::int32_t> id) mutable {
      return id ? read(*id) : std::string();
    };
  return WordPieceText(vocabulary);
}

}  // namespace wedge::data
