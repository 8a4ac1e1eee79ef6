// BERT's uncased WordPiece tokenizer: from UTF-8 text to token ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace wedge::data {

// Cuts text into pieces of a fixed vocabulary as bert-base-uncased does, id for id as Hugging Face's
// BertTokenizerFast without special tokens (see unicode.h for the code points beyond Unicode 8):
//
//   1. drop control characters, turn whitespace into spaces, put spaces around CJK ideographs;
//   2. decompose (NFD), drop the accents (Mn), lowercase each code point;
//   3. split at whitespace; each punctuation character is a word of its own;
//   4. cut a word greedily into the longest pieces of the vocabulary, those that do not begin the word
//   spelled "##piece".
//      A word with no such cut, or of more than 100 code points, is one [UNK].
//
// Text that spells a special token ("[MASK]") is ordinary text. Immutable: one object serves many threads.
class WordPiece {
 public:
  // `vocabulary`: the piece of each id. Throws wedge::Error if it is empty, lacks [UNK], or has an entry that
  // is empty, repeated or not UTF-8 (the message counts lines from 1, as the file has them).
  explicit WordPiece(std::vector<std::string> vocabulary);

  // Reads a vocabulary of one piece a line, ended by \n or \r\n. Throws wedge::Error, with the path, where
  // the file cannot be read and where the constructor throws.
  static WordPiece from_file(const std::filesystem::path& vocab_txt);

  // Appends the ids of `utf8` to `out`. Throws wedge::Error that names the byte offset (from 0) of
  // invalid UTF-8, and then leaves `out` as it was.
  void encode(std::string_view utf8, std::vector<int32_t>& out) const;

  // The piece of each id, as given.
  const std::vector<std::string>& vocabulary() const { return vocabulary_; }

 private:
  // The vocabulary as a trie over bytes. An edge (node, byte) → child is a slot of one open-addressing table,
  // so a step is one multiplication and, nearly always, one cache line.
  struct Edge {
    uint32_t key;   // node << 8 | byte
    int32_t child;  // 0 (the root, nobody's child) marks a free slot
  };
  static constexpr int32_t kRoot = 0;
  static constexpr int32_t kNone = -1;

  int32_t& child(int32_t node, char byte);
  int32_t find_child(int32_t node, char byte) const;
  int32_t insert(std::string_view piece);
  void append_word(std::string_view word, int64_t code_points, std::vector<int32_t>& out) const;

  std::vector<std::string> vocabulary_;
  std::vector<Edge> edges_;
  int shift_ = 0;                      // 32 - log2(edges_.size())
  std::vector<int32_t> piece_of_;      // by node: the id of the piece that ends there, or kNone
  int32_t continuation_root_ = kNone;  // the node of "##"
  int32_t unknown_ = kNone;
};

}  // namespace wedge::data
