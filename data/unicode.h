// Code points as the BERT tokenizer sees them: UTF-8, the character classes, decomposition, lowercase.
//
// Properties come from utf8proc. The tokenizer that this must agree with (Hugging Face `tokenizers`) has its
// character classes frozen at Unicode 8; the few characters whose class has changed since then are listed in
// unicode.cpp. Code points assigned after Unicode 8 follow utf8proc; tests/goldens/compare_tokenizer.py lists
// where the two differ.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace wedge::data {

// Reads the code point that starts at byte `offset` (< text.size()) and moves `offset` behind it. Returns -1,
// and leaves `offset`, where the bytes are not valid UTF-8 (overlong forms, surrogates and cut sequences
// included).
int32_t next_code_point(std::string_view text, size_t& offset);

// Offset, counted in bytes from 0, of the first byte that is not valid UTF-8; nothing if all of `text` is
// valid.
std::optional<size_t> find_invalid_utf8(std::string_view text);

// Appends `code_point` to `text` as UTF-8.
void append_utf8(std::string& text, int32_t code_point);

// Tab, line feed, carriage return, and the categories Zs, Zl, Zp.
bool is_whitespace(int32_t code_point);

// What text cleaning removes: U+0000, U+FFFD, and the categories Cc, Cf, Co, tab and line ends aside.
bool is_dropped(int32_t code_point);

// Every ASCII character that is no letter, digit, space or control character ('$' and '+' too), and the
// categories P*.
bool is_punctuation(int32_t code_point);

// Category Mn: the accents that are stripped after decomposition.
bool is_nonspacing_mark(int32_t code_point);

// The blocks of CJK ideographs that stand as words of their own. Hangul, Hiragana and Katakana are not in
// them.
bool is_cjk_ideograph(int32_t code_point);

// Canonical combining class; 0 for a starter, which marks may not be reordered across.
int combining_class(int32_t code_point);

// Lowercase of one code point by its simple mapping, whatever surrounds it (no final sigma).
int32_t to_lower(int32_t code_point);

// One code point's full canonical decomposition (NFD) has at most this many code points.
inline constexpr size_t kMaxDecomposition = 8;

// Writes the full canonical decomposition of `code_point` to `buffer` and returns the part that was written.
// Putting the marks of neighbouring characters in canonical order is the caller's work.
std::span<const int32_t> decompose(int32_t code_point, std::array<int32_t, kMaxDecomposition>& buffer);

}  // namespace wedge::data
