#include "data/corpus.h"

#include <cstdlib>
#include <fstream>

#include "data/blocks.h"
#include "data/builtin_corpus.h"
#include "tensor/safetensors.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::data;
using Catch::Matchers::ContainsSubstring;
using wedge::test::TempDir;

namespace {

// Sets $WEDGE_DATA (or takes it away) while it lives.
class DataRoot {
 public:
  explicit DataRoot(const char* value) {
    if (const char* before = std::getenv("WEDGE_DATA")) before_ = before;
    set(value);
  }
  ~DataRoot() { set(before_ ? before_->c_str() : nullptr); }

 private:
  static void set(const char* value) { value ? setenv("WEDGE_DATA", value, 1) : unsetenv("WEDGE_DATA"); }
  std::optional<std::string> before_;
};

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

CorpusOptions options_of(const std::string& source) {
  CorpusOptions options;
  options.source = source;
  return options;
}

std::string error_of(const CorpusOptions& options, const std::vector<Split>& wanted) {
  try {
    load_corpus(options, wanted);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void check_hint(const std::string& error, const std::string& file, bool hint) {
  CHECK_THAT(error, ContainsSubstring(file));
  CHECK_THAT(error, !ContainsSubstring("\n"));
  CHECK((error.find("data/fetch_wikitext2.sh") != error.npos) == hint);
  CHECK((error.find("data=builtin") != error.npos) == hint);
}

const std::vector<Split> kBoth = {Split::train, Split::validation};

}  // namespace

TEST_CASE("corpus: where data is looked for", "[corpus]") {
  {
    DataRoot root("/some/where");
    CHECK(data_root() == "/some/where");
  }
  for (const char* unset : {static_cast<const char*>(nullptr), ""}) {
    DataRoot root(unset);
    CHECK(data_root() == std::filesystem::path(std::getenv("HOME")) / ".cache" / "wedge");
  }
}

TEST_CASE("corpus: text, official names and named files, rows limited", "[corpus]") {
  TempDir dir;
  DataRoot root(dir.path().c_str());
  write_text(dir / "bert-base-uncased" / "vocab.txt", "[UNK]\na\nb\nc\n##c\n");
  write_text(dir / "wikitext-2-raw-v1" / "wiki.train.raw", "a b\nbc\nc\n");
  write_text(dir / "wikitext-2-raw-v1" / "wiki.valid.raw", "b\n\nc\n");
  write_text(dir / "wikitext-2-raw-v1" / "wiki.test.raw", "x a\na\n");

  CorpusOptions options = options_of("text");
  const Corpus corpus = load_corpus(options, {Split::train, Split::validation, Split::test});
  CHECK(corpus.vocab_size == 5);
  CHECK(corpus.vocabulary == std::vector<std::string>{"[UNK]", "a", "b", "c", "##c"});
  CHECK(corpus.train == std::vector<std::int32_t>{1, 2, 2, 4, 3});
  CHECK(corpus.validation == std::vector<std::int32_t>{2, 3});
  CHECK(corpus.test == std::vector<std::int32_t>{0, 1, 1});
  CHECK(&corpus.tokens(Split::test) == &corpus.test);
  CHECK_FALSE(corpus.floor(1).has_value());
  CHECK(load_corpus(options, {Split::validation}).train.empty());

  options.max_samples_train = 1;
  options.max_samples_val = 2;
  const Corpus less = load_corpus(options, {Split::train, Split::validation, Split::test});
  CHECK(less.train == std::vector<std::int32_t>{1, 2});
  CHECK(less.validation == std::vector<std::int32_t>{2});
  CHECK(less.test == corpus.test);

  const std::vector<std::string> vocabulary = {"b", "[UNK]"};
  CHECK(load_corpus(options, {Split::train}, &vocabulary).train == std::vector<std::int32_t>{1, 0});

  write_text(dir / "mine" / "v.txt", "[UNK]\nz\n");
  write_text(dir / "mine" / "one.txt", "z\n");
  options = options_of("text");
  options.path = (dir / "mine").string();
  options.train_file = "one.txt";
  options.validation_file = (dir / "wikitext-2-raw-v1" / "wiki.valid.raw").string();
  options.vocab_file = (dir / "mine" / "v.txt").string();
  const Corpus mine = load_corpus(options, kBoth);
  CHECK(mine.train == std::vector<std::int32_t>{1});
  CHECK(mine.validation == std::vector<std::int32_t>{0, 0});
}

TEST_CASE("corpus: a missing file is named, and for WikiText-2 what to do", "[corpus]") {
  TempDir dir;
  DataRoot root(dir.path().c_str());
  check_hint(error_of(options_of("parquet"), kBoth), "train-00000-of-00001.parquet", true);
  check_hint(error_of(options_of("parquet"), {Split::validation}), "validation-00000-of-00001.parquet", true);
  check_hint(error_of(options_of("text"), kBoth), "wiki.train.raw", true);
  write_text(dir / "wikitext-2-raw-v1" / "wiki.test.raw", "a\n");
  check_hint(error_of(options_of("text"), {Split::test}), "vocab.txt", true);

  CorpusOptions options = options_of("text");
  options.path = (dir / "mine").string();
  check_hint(error_of(options, kBoth), "mine/wiki.train.raw", false);
  options = options_of("text");
  options.vocab_file = (dir / "v.txt").string();
  check_hint(error_of(options, {Split::test}), "no file " + *options.vocab_file, false);

  write_text(dir / "bert-base-uncased" / "vocab.txt", "[UNK]\n");
  write_text(dir / "wikitext-2-raw-v1" / "wiki.test.raw", "a\n\xff\n");
  CHECK_THAT(error_of(options_of("text"), {Split::test}),
             ContainsSubstring("wiki.test.raw: ") && ContainsSubstring("row 2"));
}

TEST_CASE("corpus: tokens", "[corpus]") {
  TempDir dir;
  CorpusOptions options = options_of("tokens");
  CHECK_THAT(error_of(options, kBoth), ContainsSubstring("data.path"));
  options.path = (dir / "t.safetensors").string();
  CHECK_THAT(error_of(options, kBoth), ContainsSubstring("t.safetensors: cannot open"));

  const auto ids = [](std::vector<std::int32_t> v) {
    return Tensor::from(v, {static_cast<std::int64_t>(v.size())});
  };
  write_safetensors(*options.path, {{"train", ids({0, 1})}, {"validation", ids({2})}, {"test", ids({1})}},
                    {{"vocab_size", "3"}});
  const Corpus corpus = load_corpus(options, kBoth);
  CHECK(corpus.vocab_size == 3);
  CHECK(corpus.vocabulary.empty());
  CHECK(corpus.train == std::vector<std::int32_t>{0, 1});
  CHECK(corpus.validation == std::vector<std::int32_t>{2});
  CHECK(corpus.test.empty());
  CHECK(load_corpus(options, {Split::test}).test == std::vector<std::int32_t>{1});

  const std::vector<std::string> three = {"x", "y", "z"}, two = {"x", "y"};
  CHECK(load_corpus(options, kBoth, &three).vocabulary == three);
  CHECK_THROWS_WITH(load_corpus(options, kBoth, &two), ContainsSubstring("the vocabulary has 2 entries"));
  options.max_samples_val = 5;
  CHECK_THAT(error_of(options, kBoth), ContainsSubstring("has no rows"));
}

TEST_CASE("corpus: builtin, with the floor over the targets of its blocks", "[corpus]") {
  CorpusOptions options = options_of("builtin");
  options.max_samples_train = 3;
  const Corpus corpus = load_corpus(options, kBoth);
  CHECK(corpus.vocabulary == builtin_vocabulary());
  CHECK(corpus.vocab_size == static_cast<std::int64_t>(builtin_vocabulary().size()));
  CHECK(corpus.train == builtin_corpus(Split::train, 3).tokens);
  const BuiltinText validation = builtin_corpus(Split::validation);
  CHECK(corpus.validation == validation.tokens);
  CHECK(corpus.test.empty());
  CHECK(corpus.floor(64) == mean_over_targets(validation.surprisal, 64));
  CHECK(corpus.floor(16, Split::train) == mean_over_targets(builtin_corpus(Split::train, 3).surprisal, 16));
  CHECK_FALSE(corpus.floor(64, Split::test).has_value());

  CHECK(load_corpus(options, kBoth, &corpus.vocabulary).train == corpus.train);
  const std::vector<std::string> other = {"a"};
  CHECK_THROWS_WITH(load_corpus(options, kBoth, &other),
                    ContainsSubstring("not that of the built-in corpus"));
}

TEST_CASE("corpus: what cannot be asked for", "[corpus]") {
  CHECK_THAT(error_of(options_of("wikitext"), kBoth), ContainsSubstring("unknown source 'wikitext'"));
  for (const std::int64_t bad : {0, -1}) {
    CorpusOptions options = options_of("builtin");
    options.max_samples_val = bad;
    CHECK_THAT(error_of(options, kBoth), ContainsSubstring("rows of validation must be >= 1"));
  }
}

TEST_CASE("corpus: WikiText-2, token and block counts", "[corpus][wikitext]") {
  const auto folder = data_root() / "wikitext-2-raw-v1";
  const auto part = folder / "wiki.train.part.raw";
  const bool whole = std::filesystem::exists(folder / "wiki.train.raw");
  if (!whole && !std::filesystem::exists(part)) {
    WARN("skipped: no WikiText-2 in $WEDGE_DATA");
    return;
  }
  CorpusOptions options = options_of("text");
  if (!whole) options.train_file = part.filename().string();
  options.max_samples_train = 800;
  options.max_samples_val = 200;
  const Corpus corpus = load_corpus(options, kBoth);
  CHECK(corpus.vocab_size == 30522);
  CHECK(corpus.train.size() == 45854);
  CHECK(corpus.validation.size() == 12884);
  CHECK(Blocks(corpus.train, 128, "train").count() == 355);
  CHECK(Blocks(corpus.validation, 128, "validation").count() == 99);
  options.max_samples_val.reset();
  const Corpus all = load_corpus(options, {Split::validation, Split::test});
  CHECK(all.validation.size() == 238656);
  CHECK(all.test.size() == 273178);
}
