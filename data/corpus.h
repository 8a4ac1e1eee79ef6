// From the name of a source to streams of token ids: the one door to the four sources.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/split.h"

namespace wedge::data {

// Where a corpus comes from. What has no value is as by default.
struct CorpusOptions {
  std::string source = "parquet";  // "parquet", "text", "tokens" or "builtin"
  // parquet, text: the folder of the split files, by default wikitext-2-raw-v1 in data_root().
  // tokens: the file, which must be named. builtin: not used.
  std::optional<std::string> path;
  // parquet, text: file names in that folder, or paths of their own. By default the official names:
  // {train,validation,test}-00000-of-00001.parquet, and wiki.{train,valid,test}.raw.
  std::optional<std::string> train_file, validation_file, test_file;
  // parquet, text: WordPiece's vocabulary, by default bert-base-uncased/vocab.txt in data_root().
  std::optional<std::string> vocab_file;
  // The first so many rows of a split, >= 1; without a value, all. A row of the built-in corpus is a
  // paragraph. A token file has no rows: a value is an error. The test split is always whole.
  std::optional<std::int64_t> max_samples_train, max_samples_val;
};

struct Corpus {
  std::int64_t vocab_size = 0;
  std::vector<std::string> vocabulary;                // the text of each id; empty for tokens
  std::vector<std::int32_t> train, validation, test;  // ids in [0, vocab_size); empty where not asked for
  // builtin: -ln of each token's true probability given all the text before it, see builtin_corpus.h. Else
  // empty.
  std::vector<double> train_surprisal, validation_surprisal, test_surprisal;

  const std::vector<std::int32_t>& tokens(Split split) const;

  // builtin: the mean surprisal, in nats, of the targets that `split` has when it is cut into blocks of
  // context_len: the mean loss over these tokens below which no model comes but by luck. None for other
  // sources or a split that was not loaded. Throws wedge::Error where there is no whole block.
  std::optional<double> floor(std::int64_t context_len, Split split = Split::validation) const;
};

// $WEDGE_DATA, or ~/.cache/wedge where that is unset or empty.
std::filesystem::path data_root();

// Loads the wanted splits. With `vocabulary` (a checkpoint's) text is cut into its pieces and no vocabulary
// file is read; for builtin it must be the built-in one, for tokens it is kept and must have vocab_size
// entries. Throws wedge::Error, one line, for an unknown source, an option out of range, and whatever is
// wrong with a file. Where WikiText-2 is missing from data_root(), the line says how to get it and what works
// without.
Corpus load_corpus(const CorpusOptions& options, const std::vector<Split>& wanted,
                   const std::vector<std::string>* vocabulary = nullptr);

}  // namespace wedge::data
