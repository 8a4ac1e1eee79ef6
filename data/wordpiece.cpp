#include "data/wordpiece.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "data/read_stream.h"
#include "data/unicode.h"
#include "tensor/check.h"

namespace wedge::data {

namespace {

constexpr int64_t kMaxWordLength = 100;
constexpr size_t kMaxBytes = (size_t{1} << 24) - 1;  // of all pieces together

// What becomes of an ASCII character; the rest of Unicode goes through unicode.h.
enum class Ascii : uint8_t { kWord, kSpace, kPunctuation, kDropped };

constexpr std::array<Ascii, 128> kAscii = [] {
  std::array<Ascii, 128> table{};
  for (int c = 0; c < 128; ++c) {
    bool word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    table[c] = word                    ? Ascii::kWord
               : space                 ? Ascii::kSpace
               : c > ' ' && c < '\x7f' ? Ascii::kPunctuation
                                       : Ascii::kDropped;
  }
  return table;
}();

// Collects the code points of one word after another, canonically ordered, without accents, in lowercase, and
// calls on_word(word, code_points) at the end of each.
template <class OnWord>
class Words {
 public:
  explicit Words(OnWord on_word) : on_word_(std::move(on_word)) {}

  void add_ascii(char c) {
    if (!marks_.empty()) release_marks();
    if (kAscii[c] == Ascii::kPunctuation) {
      end_word();
      take(c);
      end_word();
    } else {
      take(c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c);
    }
  }

  void add(int32_t code_point) {
    bool alone = is_cjk_ideograph(code_point);
    if (alone) add_space();
    for (int32_t part : decompose(code_point, buffer_)) {
      int order = combining_class(part);
      if (order == 0 && !marks_.empty()) release_marks();
      if (is_nonspacing_mark(part)) continue;
      if (order == 0) {
        add_decomposed(part);
      } else {
        marks_.emplace_back(order, part);
      }
    }
    if (alone) add_space();
  }

  void add_space() {
    if (!marks_.empty()) release_marks();
    end_word();
  }

 private:
  // The few marks that are no Mn and yet reorder wait here for the next starter.
  void release_marks() {
    std::stable_sort(marks_.begin(), marks_.end(), [](auto& a, auto& b) { return a.first < b.first; });
    for (auto [order, mark] : marks_) add_decomposed(mark);
    marks_.clear();
  }

  void add_decomposed(int32_t code_point) {
    code_point = to_lower(code_point);
    bool alone = is_punctuation(code_point);
    if (alone) end_word();
    append_utf8(word_, code_point);
    ++code_points_;
    if (alone) end_word();
  }

  void take(char c) {
    word_.push_back(c);
    ++code_points_;
  }

  void end_word() {
    if (word_.empty()) return;
    on_word_(std::string_view(word_), code_points_);
    word_.clear();
    code_points_ = 0;
  }

  OnWord on_word_;
  std::string word_;
  int64_t code_points_ = 0;
  std::vector<std::pair<int, int32_t>> marks_;
  std::array<int32_t, kMaxDecomposition> buffer_;
};

}  // namespace

WordPiece::WordPiece(std::vector<std::string> vocabulary) : vocabulary_(std::move(vocabulary)) {
  WEDGE_CHECK(!vocabulary_.empty(), "vocabulary: no entries");
  size_t bytes = 0;
  for (const std::string& piece : vocabulary_) bytes += piece.size();
  // A node's number has to leave room for a byte in a 32-bit key.
  WEDGE_CHECK(bytes <= kMaxBytes, "vocabulary: {} bytes, more than {}", bytes, kMaxBytes);
  edges_.assign(std::bit_ceil(2 * bytes + 2), Edge{0, 0});
  shift_ = 32 - std::countr_zero(edges_.size());
  piece_of_.assign(1, kNone);

  for (size_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string& piece = vocabulary_[id];
    WEDGE_CHECK(!piece.empty(), "vocabulary: line {} is empty", id + 1);
    if (auto offset = find_invalid_utf8(piece)) {
      throw Error(fmt::format("vocabulary: line {} is not UTF-8 (byte offset {})", id + 1, *offset));
    }
    int32_t node = insert(piece);
    WEDGE_CHECK(piece_of_[node] == kNone, "vocabulary: line {} repeats line {} ('{}')", id + 1,
                piece_of_[node] + 1, piece);
    piece_of_[node] = static_cast<int32_t>(id);
    if (piece == "[UNK]") unknown_ = static_cast<int32_t>(id);
  }
  WEDGE_CHECK(unknown_ != kNone, "vocabulary: [UNK] is not among the {} entries", vocabulary_.size());
  int32_t hash = find_child(kRoot, '#');
  if (hash != kNone) continuation_root_ = find_child(hash, '#');
}

WordPiece WordPiece::from_file(const std::filesystem::path& vocab_txt) {
  errno = 0;
  std::ifstream file(vocab_txt, std::ios::binary);
  WEDGE_CHECK(file, "{}: cannot read the vocabulary: {}", vocab_txt.string(), std::strerror(errno));
  std::error_code ignored;
  WEDGE_CHECK(!std::filesystem::is_directory(vocab_txt, ignored),
              "{}: cannot read the vocabulary: it is a folder", vocab_txt.string());
  // Pieces and line ends of the largest vocabulary; a device or a pipe may have no end.
  constexpr size_t kMost = 3 * kMaxBytes;
  std::string text = read_stream(file, kMost);
  WEDGE_CHECK(text.size() <= kMost, "{}: expected a vocabulary of at most {} bytes, got more",
              vocab_txt.string(), kMost);
  WEDGE_CHECK(!file.bad(), "{}: reading failed", vocab_txt.string());
  std::vector<std::string> vocabulary;
  std::istringstream lines(std::move(text));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    vocabulary.push_back(std::move(line));
  }
  try {
    return WordPiece(std::move(vocabulary));
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", vocab_txt.string(), error.what()));
  }
}

void WordPiece::encode(std::string_view utf8, std::vector<int32_t>& out) const {
  const size_t first = out.size();
  Words words([&](std::string_view word, int64_t code_points) { append_word(word, code_points, out); });
  for (size_t offset = 0; offset < utf8.size();) {
    char c = utf8[offset];
    if (static_cast<unsigned char>(c) < 0x80) {
      switch (kAscii[c]) {
        case Ascii::kWord:
        case Ascii::kPunctuation:
          words.add_ascii(c);
          break;
        case Ascii::kSpace:
          words.add_space();
          break;
        case Ascii::kDropped:
          break;
      }
      ++offset;
      continue;
    }
    int32_t code_point = next_code_point(utf8, offset);
    if (code_point < 0) {
      out.resize(first);
      throw Error(fmt::format("invalid UTF-8 at byte offset {}", offset));
    }
    if (is_dropped(code_point)) continue;
    if (is_whitespace(code_point)) {
      words.add_space();
    } else {
      words.add(code_point);
    }
  }
  words.add_space();
}

int32_t& WordPiece::child(int32_t node, char byte) {
  uint32_t key = static_cast<uint32_t>(node) << 8 | static_cast<unsigned char>(byte);
  size_t slot = (key * 0x9E3779B1u) >> shift_;
  while (edges_[slot].child != 0 && edges_[slot].key != key) slot = (slot + 1) & (edges_.size() - 1);
  edges_[slot].key = key;
  return edges_[slot].child;
}

int32_t WordPiece::find_child(int32_t node, char byte) const {
  uint32_t key = static_cast<uint32_t>(node) << 8 | static_cast<unsigned char>(byte);
  size_t slot = (key * 0x9E3779B1u) >> shift_;
  while (edges_[slot].child != 0) {
    if (edges_[slot].key == key) return edges_[slot].child;
    slot = (slot + 1) & (edges_.size() - 1);
  }
  return kNone;
}

int32_t WordPiece::insert(std::string_view piece) {
  int32_t node = kRoot;
  for (char byte : piece) {
    int32_t& next = child(node, byte);
    if (next == 0) {
      next = static_cast<int32_t>(piece_of_.size());
      piece_of_.push_back(kNone);
    }
    node = next;
  }
  return node;
}

void WordPiece::append_word(std::string_view word, int64_t code_points, std::vector<int32_t>& out) const {
  if (code_points > kMaxWordLength) {
    out.push_back(unknown_);
    return;
  }
  size_t first = out.size();
  for (size_t start = 0; start < word.size();) {
    int32_t node = start == 0 ? kRoot : continuation_root_;
    int32_t longest = kNone;
    size_t end = start;
    for (size_t i = start; i < word.size() && node != kNone; ++i) {
      node = find_child(node, word[i]);
      if (node != kNone && piece_of_[node] != kNone) {
        longest = piece_of_[node];
        end = i + 1;
      }
    }
    if (longest == kNone) {
      out.resize(first);
      out.push_back(unknown_);
      return;
    }
    out.push_back(longest);
    start = end;
  }
}

}  // namespace wedge::data
