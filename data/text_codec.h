// From text to a vocabulary's token ids, and from ids back to text that reads well.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace wedge::data {

// The ids of `text`. For WordPiece's vocabulary as WordPiece::encode; for that of the built-in corpus, words
// and punctuation in small or capital letters, a blank line as the end of a paragraph; with no vocabulary,
// the ids themselves as numbers in [0, vocab_size) between spaces or commas. Throws wedge::Error, one line,
// naming what is no word of the vocabulary.
std::vector<std::int32_t> encode_text(std::string_view text, const std::vector<std::string>& vocabulary,
                                      std::int64_t vocab_size);

// Called with one id after another, gives what each adds to the text; called with none, what it held back
// until it would know what follows. The text may go on after that.
using Detokenizer = std::function<std::string(std::optional<std::int32_t> id)>;

// For WordPiece's vocabulary: a space before each word but before closing and after opening punctuation; none
// around apostrophes and around the hyphens, commas and points that WikiText spells "@-@", "@,@", "@.@". For
// that of the built-in corpus: as builtin_text. With no vocabulary: the numbers, with spaces between them.
// Ids must be the vocabulary's. Keeps no reference to `vocabulary`.
Detokenizer make_detokenizer(const std::vector<std::string>& vocabulary);

}  // namespace wedge::data
