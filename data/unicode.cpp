#include "data/unicode.h"

#include <utf8proc.h>

namespace wedge::data {

namespace {

// General category, as it was in Unicode 8 for the characters where a later version changed what the
// tokenizer does.
utf8proc_category_t category(int32_t code_point) {
  switch (code_point) {
    case 0x166D:   // CANADIAN SYLLABICS CHI SIGN, So since Unicode 12
    case 0x111C9:  // SHARADA SANDHI MARK, Mn since Unicode 11
      return UTF8PROC_CATEGORY_PO;
    case 0x1734:   // HANUNOO SIGN PAMUDPOD, Mc since Unicode 14
    case 0x1171E:  // AHOM CONSONANT SIGN MEDIAL RA, Mc since Unicode 16
      return UTF8PROC_CATEGORY_MN;
    case 0x1885:  // MONGOLIAN LETTER ALI GALI BALUDA and THREE BALUDA, Mn since Unicode 9
    case 0x1886:
      return UTF8PROC_CATEGORY_LO;
    case 0xA9BD:  // JAVANESE CONSONANT SIGN KERET, Mn since Unicode 11
      return UTF8PROC_CATEGORY_MC;
    default:
      return utf8proc_category(code_point);
  }
}

bool between(int32_t code_point, int32_t first, int32_t last) {
  return code_point >= first && code_point <= last;
}

}  // namespace

int32_t next_code_point(std::string_view text, size_t& offset) {
  int32_t code_point;
  utf8proc_ssize_t length =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + offset,
                       static_cast<utf8proc_ssize_t>(text.size() - offset), &code_point);
  if (length <= 0) return -1;
  offset += static_cast<size_t>(length);
  return code_point;
}

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  for (size_t offset = 0; offset < text.size();) {
    if (static_cast<unsigned char>(text[offset]) < 0x80) {
      ++offset;
    } else if (next_code_point(text, offset) < 0) {
      return offset;
    }
  }
  return std::nullopt;
}

void append_utf8(std::string& text, int32_t code_point) {
  utf8proc_uint8_t bytes[4];
  utf8proc_ssize_t length = utf8proc_encode_char(code_point, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

bool is_whitespace(int32_t code_point) {
  if (code_point == '\t' || code_point == '\n' || code_point == '\r') return true;
  utf8proc_category_t c = category(code_point);
  return c == UTF8PROC_CATEGORY_ZS || c == UTF8PROC_CATEGORY_ZL || c == UTF8PROC_CATEGORY_ZP;
}

bool is_dropped(int32_t code_point) {
  if (code_point == '\t' || code_point == '\n' || code_point == '\r') return false;
  if (code_point == 0xFFFD) return true;
  utf8proc_category_t c = category(code_point);
  return c == UTF8PROC_CATEGORY_CC || c == UTF8PROC_CATEGORY_CF || c == UTF8PROC_CATEGORY_CO;
}

bool is_punctuation(int32_t code_point) {
  if (code_point < 0x80) {
    return between(code_point, '!', '/') || between(code_point, ':', '@') || between(code_point, '[', '`') ||
           between(code_point, '{', '~');
  }
  utf8proc_category_t c = category(code_point);
  return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool is_nonspacing_mark(int32_t code_point) {
  return category(code_point) == UTF8PROC_CATEGORY_MN;
}

bool is_cjk_ideograph(int32_t code_point) {
  return between(code_point, 0x4E00, 0x9FFF) || between(code_point, 0x3400, 0x4DBF) ||
         between(code_point, 0xF900, 0xFAFF) || between(code_point, 0x20000, 0x2A6DF) ||
         between(code_point, 0x2A700, 0x2B81F) || between(code_point, 0x2B920, 0x2CEAF) ||
         between(code_point, 0x2F800, 0x2FA1F);
}

int combining_class(int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

int32_t to_lower(int32_t code_point) {
  return utf8proc_tolower(code_point);
}

std::span<const int32_t> decompose(int32_t code_point, std::array<int32_t, kMaxDecomposition>& buffer) {
  int last_boundclass = 0;
  utf8proc_ssize_t length = utf8proc_decompose_char(code_point, buffer.data(), kMaxDecomposition,
                                                    UTF8PROC_DECOMPOSE, &last_boundclass);
  return {buffer.data(), static_cast<size_t>(length)};
}

}  // namespace wedge::data
