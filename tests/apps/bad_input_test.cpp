// Every kind of bad input, through the real command: one line on standard error, exit status 2, and no file
// made, changed or left half written.
#include <filesystem>

#include <sys/stat.h>

#include "tests/apps/command_runner.h"
#include "tests/apps/tiny_corpus.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

// A folder with what the cases below need, and the check itself.
class Bench {
 public:
  Bench() {
    fs::create_directories(cwd_ / "taken");
    spill(cwd_ / "taken/last.safetensors", "precious");
    spill(cwd_ / "file", "text");
    spill(cwd_ / "junk.safetensors", "not a safetensors file");
    spill(cwd_ / "vocab.txt", "[UNK]\na\nb\n##b\n");
    write_tiny_corpus(cwd_ / "tokens.safetensors");
    write_tiny_corpus(cwd_ / "short_train.safetensors", 8, 100);
    write_tiny_corpus(cwd_ / "short_validation.safetensors", 500, 8);
    fs::create_directories(cwd_ / "texts");
    spill(cwd_ / "texts/wiki.train.raw",
          "a b ab\n"
          "a \xff b\n");
    spill(cwd_ / "texts/wiki.valid.raw", "a b ab a b ab a b ab\n");
  }

  // `wedge WORDS` must fail and say `part`.
  void fails(const std::vector<std::string>& words, const std::string& part) {
    const auto before = snapshot(cwd_);
    const Outcome outcome = run_wedge(cwd_, words);
    INFO(words.front() << " ... " << words.back() << "\n" << outcome.err);
    CHECK(outcome.status == 2);
    CHECK(outcome.out.empty());
    CHECK(is_one_error_line(outcome.err));
    CHECK_THAT(outcome.err, ContainsSubstring(part));
    CHECK(snapshot(cwd_) == before);
  }

  // The same of `wedge train` on the tiny corpus with these words added.
  void train_fails(const std::vector<std::string>& words, const std::string& part) {
    fails(tiny_train(words), part);
  }

  const fs::path& cwd() const { return cwd_; }

 private:
  TempDir temp_;
  fs::path cwd_ = temp_ / "cwd";
};

}  // namespace

TEST_CASE("bad input: commands and options", "[apps][command]") {
  Bench bench;
  bench.fails({"trian"}, "unknown command 'trian'; the nearest is train");
  bench.fails({"frobnicate"}, "unknown command 'frobnicate'; expected train, eval, ");
  bench.fails({"help", "evil"}, "the nearest is eval");
  bench.fails({"--verson"}, "unknown command '--verson'");
  bench.train_fails({"--multi"}, "train: unknown option '--multi'; the nearest is --multirun");
  bench.fails({"summarize", "--rot", "x"}, "the nearest is --root");
  bench.fails({"summarize", "--root"}, "--root needs a value");
  bench.fails({"summarize", "--root=a", "--root", "b"}, "summarize: --root is given twice");
  bench.fails({"tokenize", "vocabulary=x"}, "the nearest is vocab=");
  bench.fails({"tokenize", "vocab="}, "tokenize: vocab needs a value");
  bench.fails({"tokenize"}, "vocab=FILE is missing");
  bench.fails({"tokenize", "vocab=nope"}, "nope: cannot read the vocabulary: No such file or directory");
  bench.fails({"tokenize", "vocab=texts"}, "texts: cannot read the vocabulary: it is a folder");
  bench.fails({"generate", "checkpoint=x"}, "generate: prompt=TEXT is missing");
  bench.fails({"generate", "checkpoint=x", "prompt="}, "generate: prompt needs a value");
  bench.fails({"tokenize", "vocab=a\xff\x1b\u00e9"}, "a\\xff\\x1b\u00e9: cannot read");
  bench.fails({"eval"}, "checkpoint=FILE_OR_RUN_DIR is missing");
  bench.fails({"eval", "checkpoint=a", "checkpoint=b"}, "eval: checkpoint is given twice");
  bench.fails({"eval", "chekpoint=a"}, "eval: unknown key 'chekpoint'; the nearest is checkpoint=");
  bench.fails({"eval", "checkpoint=a", "train.learning_rate=1"},
              "eval: train.learning_rate comes with the checkpoint and cannot be changed; data, "
              "train.batch_size, train.threads, train.device, train.amp can");
  // What would mean nothing is not taken.
  bench.fails({"inspect", "checkpoint=a", "train.amp=false"}, "inspect: train.amp comes with the checkpoint");
  bench.fails({"inspect", "checkpoint=a", "train.batch_size=3"},
              "inspect: train.batch_size comes with the checkpoint");
}

TEST_CASE("bad input: keys, presets and values", "[apps][command]") {
  Bench bench;
  bench.train_fails({"train.batchsize=4"}, "unknown key 'train.batchsize'; the nearest is train.batch_size");
  bench.train_fails({"line\nend=4"}, "unknown key 'line\\x0aend'");
  bench.train_fails({"model=lstm"}, "no such preset; there is attention, grassmann");
  bench.train_fails({"model.tensor_lifting_strategy=lstm"}, "lstm");
  bench.train_fails({"train.batch_size=four"}, "train.batch_size: expected an integer");
  bench.train_fails({"train.batch_size=4.0"}, "train.batch_size: expected an integer");
  bench.train_fails({"model.pre_norm=yes"}, "model.pre_norm: expected true or false");
  bench.train_fails({"train.learning_rate=nan"}, "train.learning_rate: expected a number");
  bench.train_fails({"train.learning_rate=1e999"}, "train.learning_rate: expected a number");
  bench.train_fails({"train.learning_rate=1e-400"},
                    "train.learning_rate: expected a number, got \"1e-400\" (too small)");
  bench.train_fails({"train.learning_rate=-1"}, "train.learning_rate: must be at least 0");
  bench.train_fails({"train.dropout_rate=1"}, "train.dropout_rate: must be");
  bench.train_fails({"train.num_epochs=0"}, "train.num_epochs: must be");
  bench.train_fails({"train.batch_size=99999999999999999999"}, "train.batch_size");
  bench.train_fails({"seed=-1"}, "seed: must be");
  bench.train_fails({"seed=1,2"}, "-m");
  bench.train_fails({"train.device=cuda"}, "train.device=cuda");
}

TEST_CASE("bad input: lags and widths that do not fit", "[apps][command]") {
  Bench bench;
  bench.train_fails({"model.num_heads=3"}, "model.");
  bench.train_fails({"model=grassmann", "model.lags=[0]"}, "model.lags");
  bench.train_fails({"model=grassmann", "model.lags=[]"}, "model.lags");
  bench.train_fails({"model=grassmann", "model.d_low=1"}, "model.d_low");
  bench.train_fails({"model=grassmann", "model.layerwise_lags=true", "model.lags=[1,2,4]"}, "model.lags");
  // With -m, the last run's fault keeps the first from starting.
  bench.train_fails({"-m", "model=attention,grassmann", "model.lags=[1,2],[0]"}, "model.lags");
}

TEST_CASE("bad input: data", "[apps][command]") {
  Bench bench;
  bench.train_fails({"data.path=none.safetensors"}, "none.safetensors");
  bench.train_fails({"data.path=junk.safetensors"}, "junk.safetensors");
  bench.train_fails({"data.path=short_train.safetensors"}, "train");
  bench.train_fails({"data.path=short_validation.safetensors"}, "validation");
  bench.train_fails({"-m", "data.path=tokens.safetensors,short_train.safetensors"}, "train");
  bench.train_fails({"data=text", "data.path=nowhere"}, "nowhere");
  bench.train_fails({"data=text", "data.path=texts", "data.vocab_file=none.txt"}, "none.txt");
  bench.train_fails({"data=text", "data.path=texts", "data.vocab_file=vocab.txt"},
                    "2");  // the row that is no UTF-8
  bench.train_fails(
      {"data=text", "data.path=texts", "data.vocab_file=vocab.txt", "data.train_file=/dev/zero"},
      "/dev/zero is not a regular file");
  bench.train_fails(
      {"data=text", "data.path=texts"},
      "bert-base-uncased/vocab.txt, the vocabulary that texts are cut with: data.vocab_file=FILE");
  for (const char* source : {"data=wikitext2", "data=text"}) {
    bench.fails({"train", source}, "fetch_wikitext2.sh");
    bench.fails({"train", source}, "data=builtin");
  }
}

TEST_CASE("bad input: weights to start from", "[apps][command]") {
  Bench bench;
  bench.train_fails({"train.init_from=none.safetensors"}, "none.safetensors");
  bench.train_fails({"train.init_from=junk.safetensors"}, "junk.safetensors");
  bench.train_fails({"train.init_from=tokens.safetensors"}, "tokens.safetensors");
}

TEST_CASE("bad input: run folders", "[apps][command]") {
  Bench bench;
  bench.train_fails({"experiment.run_dir=taken"}, "already holds a checkpoint");
  bench.train_fails({"-m", "experiment.run_dir=taken"}, "already holds a checkpoint");
  bench.train_fails({"experiment.run_dir=file"}, "is not a folder");
  bench.train_fails({"experiment.run_dir=file/run"}, "is not a folder");
  bench.train_fails({"-m", "experiment.run_dir=a,b"}, "takes one value");
}

TEST_CASE("bad input: a run folder keeps all that an earlier run left", "[apps][command]") {
  Bench bench;
  for (const char* name : {"config.json", "metrics.jsonl", "results.json"}) {
    fs::create_directories(bench.cwd() / "odd" / name / "inside");
    for (const char* other : {"config.json", "metrics.jsonl", "results.json"})
      if (!fs::exists(bench.cwd() / "odd" / other)) spill(bench.cwd() / "odd" / other, "old");
    bench.train_fails({"experiment.run_dir=odd"}, "odd already holds a run or what one would write over, ");
    fs::remove_all(bench.cwd() / "odd");
  }
  // Each alone: a file, and a link, whose target a run would have emptied.
  spill(bench.cwd() / "target", "precious");
  for (const std::string name : {"config.json", "metrics.jsonl", "results.json", "comparison.md"})
    for (const bool link : {false, true})
      for (const char* multirun : {"seed=1", "-m"}) {
        fs::create_directories(bench.cwd() / "mine");
        if (link)
          fs::create_symlink("../target", bench.cwd() / "mine" / name);
        else
          spill(bench.cwd() / "mine" / name, "of the user");
        bench.train_fails({multirun, "experiment.run_dir=mine"},
                          "mine already holds a run or what one would write over, " + name + "; to go on");
        fs::remove_all(bench.cwd() / "mine");
      }
  fs::create_directories(bench.cwd() / "above/3_grassmann");
  spill(bench.cwd() / "above/3_grassmann/best.safetensors", "precious");
  bench.train_fails({"-m", "model=attention,grassmann", "experiment.run_dir=above"},
                    "already holds a checkpoint");
  fs::create_directories(bench.cwd() / "table/comparison.md");
  bench.train_fails({"-m", "model=attention,grassmann", "experiment.run_dir=table"},
                    "already holds a run or what one would write over, comparison.md");
}

TEST_CASE("bad input: JSON nested too deeply to be walked, and a pipe without a writer", "[apps][command]") {
  Bench bench;
  const std::string deep = std::string(60'000, '[') + std::string(60'000, ']');
  bench.train_fails({"seed=" + deep}, "seed: expected an integer");
  fs::create_directories(bench.cwd() / "tree");
  spill(bench.cwd() / "tree/results.json", R"({"strategy":"attention","config":)" + deep + "}");
  bench.fails({"summarize", "--root", "tree", "--out", "table.md"}, "not a JSON object");
  REQUIRE(::mkfifo((bench.cwd() / "pipe").c_str(), 0600) == 0);
  const Outcome outcome = run_shell(bench.cwd(), R"(timeout 20 "$wedge" eval checkpoint=pipe)");
  CHECK(outcome.status == 2);
  CHECK_THAT(outcome.err, ContainsSubstring("not a regular file"));
  const Outcome trained = run_shell(
      bench.cwd(),
      R"(timeout 20 "$wedge" train data=text data.path=texts data.vocab_file=vocab.txt data.train_file=../pipe)");
  CHECK(trained.status == 2);
  CHECK_THAT(trained.err, ContainsSubstring("not a regular file"));
}

TEST_CASE("bad input: what has no end, or is far too large for what it should be", "[apps][command]") {
  Bench bench;
  bench.fails({"tokenize", "vocab=/dev/zero"}, "/dev/zero: expected a vocabulary of at most ");
  const Outcome endless = run_shell(bench.cwd(), R"(yes | timeout 60 "$wedge" tokenize vocab=/dev/stdin)");
  CHECK(endless.status == 2);
  CHECK_THAT(endless.err, ContainsSubstring("/dev/stdin: expected a vocabulary of at most "));
  // One that comes through a pipe is as good as any.
  const Outcome piped = run_shell(bench.cwd(), R"(mkfifo vocabulary; cat vocab.txt > vocabulary &
                                                  echo a | timeout 20 "$wedge" tokenize vocab=vocabulary; wait; rm vocabulary)");
  CHECK(piped.err.empty());
  CHECK(piped.out == run_shell(bench.cwd(), R"(echo a | "$wedge" tokenize vocab=vocab.txt)").out);
  const Outcome prompt =
      run_shell(bench.cwd(), R"(timeout 60 "$wedge" generate checkpoint=nowhere prompt=- < /dev/zero)");
  CHECK(prompt.status == 2);
  CHECK_THAT(prompt.err, ContainsSubstring("prompt=-: expected at most 67108864 bytes, got more"));
  fs::create_directories(bench.cwd() / "tree/run");
  spill(bench.cwd() / "tree/run/results.json", "{}");
  fs::resize_file(bench.cwd() / "tree/run/results.json",
                  std::uintmax_t{1} << 33);  // a hole, which takes no room
  const Outcome hole = run_wedge(bench.cwd(), {"summarize", "tree"});
  CHECK(hole.status == 2);
  CHECK_THAT(hole.err, ContainsSubstring("results.json: expected at most 67108864 bytes, it has 8589934592"));
}

TEST_CASE("bad input: pipes and links that lead nowhere in a tree of runs", "[apps][command]") {
  Bench bench;
  for (const char* name : {"results.json", "metrics.jsonl"}) {
    fs::create_directories(bench.cwd() / "tree");
    const fs::path file = bench.cwd() / "tree" / name;
    const std::string line = std::string(name) == "results.json" ? "summarize --root tree" : "plot tree";
    REQUIRE(::mkfifo(file.c_str(), 0600) == 0);
    const Outcome pipe = run_shell(bench.cwd(), "timeout 20 \"$wedge\" " + line);
    CHECK(pipe.status == 2);
    CHECK(pipe.err ==
          "wedge: error: tree/" + std::string(name) + ": cannot read: it is not a regular file\n");
    fs::remove(file);
    fs::create_symlink(name, file);
    const Outcome loop = run_shell(bench.cwd(), "timeout 20 \"$wedge\" " + line);
    CHECK(loop.status == 2);
    CHECK(loop.err ==
          "wedge: error: tree/" + std::string(name) + ": cannot read: Too many levels of symbolic links\n");
    fs::remove(file);
  }
}

TEST_CASE("bad input: checkpoints", "[apps][command]") {
  Bench bench;
  bench.fails({"eval", "checkpoint=none"}, "none");
  bench.fails({"eval", "checkpoint=texts"}, "best.safetensors");
  bench.fails({"eval", "checkpoint=junk.safetensors"}, "junk.safetensors");
  bench.fails({"eval", "checkpoint=tokens.safetensors"}, "not a checkpoint of wedge train");
  bench.fails({"eval", "checkpoint=x", "data.split=tset"}, "data.split: must be train, validation or test");
}

TEST_CASE("bad input: text that is no UTF-8 is named by line", "[apps][command]") {
  Bench bench;
  const Outcome outcome =
      run_shell(bench.cwd(), R"(printf 'a\nb\n\377\n' | "$wedge" tokenize vocab=vocab.txt)");
  CHECK(outcome.status == 2);
  CHECK(outcome.out == "1\n2\n");
  CHECK(is_one_error_line(outcome.err));
  CHECK_THAT(outcome.err, ContainsSubstring("line 3"));
}

TEST_CASE("bad input: output that nobody takes", "[apps][command]") {
  Bench bench;
  for (const char* line : {R"("$wedge" --help > /dev/full)", R"("$wedge" train --help >&-)",
                           R"(yes a | "$wedge" tokenize vocab=vocab.txt > /dev/full)"}) {
    INFO(line);
    const Outcome outcome = run_shell(bench.cwd(), line);
    CHECK(outcome.status == 2);
    CHECK(is_one_error_line(outcome.err));
    CHECK_THAT(outcome.err, ContainsSubstring("standard output"));
  }
}

TEST_CASE("bad input: a pipe that nobody reads ends a command without a word", "[apps][command]") {
  Bench bench;
  const auto ended = [&](const std::string& command) {
    INFO(command);
    // The status goes to another stream: that of a pipe is the reader's. The reader is gone before it begins.
    const Outcome outcome =
        run_shell(bench.cwd(), "{ (sleep 0.3; " + command +
                                   "; echo status $? > status) | exec true; } ; cat status; rm status");
    CHECK(outcome.out == "status 141\n");
    CHECK(outcome.err.empty());
  };
  ended(R"("$wedge" --help)");
  ended(R"(yes a | "$wedge" tokenize vocab=vocab.txt)");
  std::string train = "\"$wedge\"";
  for (const std::string& word : tiny_train({"experiment.run_dir=run"})) train += " " + shell_quote(word);
  ended(train);
  CHECK(fs::exists(bench.cwd() / "run/results.json"));  // the work was finished
  ended(R"("$wedge" generate checkpoint=run prompt=1 max_tokens=1000000000)");
}

TEST_CASE("bad input: no command at all shows the help and fails", "[apps][command]") {
  Bench bench;
  const Outcome outcome = run_wedge(bench.cwd(), {});
  CHECK(outcome.status == 2);
  CHECK_THAT(outcome.out, ContainsSubstring("usage: wedge COMMAND"));
  CHECK(is_one_error_line(outcome.err));
}
