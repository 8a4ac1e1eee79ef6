#include "data/corpus.h"

#include <cstdlib>
#include <utility>

#include "data/blocks.h"
#include "data/builtin_corpus.h"
#include "data/parquet_source.h"
#include "data/text_source.h"
#include "data/tokens_source.h"
#include "data/wordpiece.h"
#include "tensor/check.h"

namespace wedge::data {
namespace {

namespace fs = std::filesystem;

std::optional<std::int64_t> max_samples(const CorpusOptions& options, Split split) {
  if (split == Split::test) return std::nullopt;
  return split == Split::train ? options.max_samples_train : options.max_samples_val;
}

template <class T>
T& pick(Split split, T& train, T& validation, T& test) {
  return split == Split::train ? train : split == Split::validation ? validation : test;
}

std::vector<std::int32_t>& stream(Corpus& corpus, Split split) {
  return pick(split, corpus.train, corpus.validation, corpus.test);
}

// A file of WikiText-2 or its vocabulary. `official`: it is looked for where fetch_wikitext2.sh puts things.
void require_file(const fs::path& path, const std::string& source, bool official) {
  std::error_code ignored;
  if (fs::exists(path, ignored)) {
    // A pipe that nobody writes to would be waited for, and a device may have no end.
    WEDGE_CHECK(fs::is_regular_file(path, ignored), "{}: {} is not a regular file", source, path.string());
    return;
  }
  WEDGE_CHECK(!official || path.extension() != ".raw",
              "{}: no file {}: data/fetch_wikitext2.sh fetches WikiText-2 as Parquet, for data=wikitext2; "
              "data=builtin needs no files",
              source, path.string());
  WEDGE_CHECK(!official,
              "{}: no file {}: WikiText-2 is fetched by data/fetch_wikitext2.sh; data=builtin needs no files",
              source, path.string());
  throw Error(fmt::format("{}: no file {}", source, path.string()));
}

fs::path split_file(const CorpusOptions& options, Split split) {
  const auto& named = pick(split, options.train_file, options.validation_file, options.test_file);
  const fs::path folder = options.path ? fs::path(*options.path) : data_root() / "wikitext-2-raw-v1";
  if (named) return folder / *named;
  if (options.source == "parquet") return folder / fmt::format("{}-00000-of-00001.parquet", name_of(split));
  return folder / fmt::format("wiki.{}.raw", split == Split::validation ? "valid" : name_of(split));
}

WordPiece load_tokenizer(const CorpusOptions& options, const std::vector<std::string>* vocabulary) {
  if (vocabulary != nullptr) {
    try {
      return WordPiece(*vocabulary);
    } catch (const Error& error) {
      throw Error(fmt::format("{}: the checkpoint's vocabulary is not WordPiece's: {}", options.source,
                              error.what()));
    }
  }
  const bool official = !options.vocab_file;
  const fs::path path =
      official ? data_root() / "bert-base-uncased" / "vocab.txt" : fs::path(*options.vocab_file);
  std::error_code ignored;
  WEDGE_CHECK(
      !official || !options.path || fs::exists(path, ignored),
      "{}: no file {}, the vocabulary that texts are cut with: data.vocab_file=FILE names another, and "
      "data/fetch_wikitext2.sh fetches this one",
      options.source, path.string());
  require_file(path, options.source, official);
  return WordPiece::from_file(path);
}

Corpus load_rows(const CorpusOptions& options, const std::vector<Split>& wanted,
                 const std::vector<std::string>* vocabulary) {
  const bool parquet = options.source == "parquet";
  for (const Split split : wanted) require_file(split_file(options, split), options.source, !options.path);
  const WordPiece tokenizer = load_tokenizer(options, vocabulary);

  Corpus corpus;
  corpus.vocabulary = tokenizer.vocabulary();
  corpus.vocab_size = static_cast<std::int64_t>(corpus.vocabulary.size());
  for (const Split split : wanted) {
    const fs::path path = split_file(options, split);
    const auto rows = (parquet ? read_parquet_rows : read_text_rows)(path, max_samples(options, split));
    try {
      stream(corpus, split) = encode_rows(tokenizer, rows);
    } catch (const Error& error) {
      throw Error(fmt::format("{}: {}", path.string(), error.what()));
    }
  }
  return corpus;
}

Corpus load_tokens(const CorpusOptions& options, const std::vector<Split>& wanted,
                   const std::vector<std::string>* vocabulary) {
  WEDGE_CHECK(options.path, "tokens: data.path must name a .safetensors file");
  WEDGE_CHECK(
      !options.max_samples_train && !options.max_samples_val,
      "tokens: a token file has no rows: data.max_samples_train and data.max_samples_val must be null");
  Corpus corpus;
  TokenFile file = read_token_file(*options.path, wanted);
  corpus.vocab_size = file.vocab_size;
  corpus.train = std::move(file.train);
  corpus.validation = std::move(file.validation);
  corpus.test = std::move(file.test);
  if (vocabulary != nullptr) {
    WEDGE_CHECK(static_cast<std::int64_t>(vocabulary->size()) == corpus.vocab_size,
                "tokens: {}: vocab_size is {}, the vocabulary has {} entries", *options.path,
                corpus.vocab_size, vocabulary->size());
    corpus.vocabulary = *vocabulary;
  }
  return corpus;
}

Corpus load_builtin(const CorpusOptions& options, const std::vector<Split>& wanted,
                    const std::vector<std::string>* vocabulary) {
  Corpus corpus;
  corpus.vocabulary = builtin_vocabulary();
  corpus.vocab_size = static_cast<std::int64_t>(corpus.vocabulary.size());
  WEDGE_CHECK(vocabulary == nullptr || *vocabulary == corpus.vocabulary,
              "builtin: the checkpoint's vocabulary is not that of the built-in corpus");
  for (const Split split : wanted) {
    BuiltinText text = builtin_corpus(split, max_samples(options, split));
    stream(corpus, split) = std::move(text.tokens);
    pick(split, corpus.train_surprisal, corpus.validation_surprisal, corpus.test_surprisal) =
        std::move(text.surprisal);
  }
  return corpus;
}

}  // namespace

const std::vector<std::int32_t>& Corpus::tokens(Split split) const {
  return pick(split, train, validation, test);
}

std::optional<double> Corpus::floor(std::int64_t context_len, Split split) const {
  const auto& values = pick(split, train_surprisal, validation_surprisal, test_surprisal);
  if (values.empty()) return std::nullopt;
  return mean_over_targets(values, context_len);
}

fs::path data_root() {
  if (const char* root = std::getenv("WEDGE_DATA"); root != nullptr && *root != '\0') return root;
  const char* home = std::getenv("HOME");
  return fs::path(home != nullptr ? home : ".") / ".cache" / "wedge";
}

Corpus load_corpus(const CorpusOptions& options, const std::vector<Split>& wanted,
                   const std::vector<std::string>* vocabulary) {
  for (const Split split : {Split::train, Split::validation}) {
    const auto limit = max_samples(options, split);
    WEDGE_CHECK(!limit || *limit >= 1, "data: the number of rows of {} must be >= 1, got {}", name_of(split),
                *limit);
  }
  if (options.source == "parquet" || options.source == "text") return load_rows(options, wanted, vocabulary);
  if (options.source == "tokens") return load_tokens(options, wanted, vocabulary);
  if (options.source == "builtin") return load_builtin(options, wanted, vocabulary);
  throw Error(
      fmt::format("data: unknown source '{}', expected parquet, text, tokens or builtin", options.source));
}

}  // namespace wedge::data
