#include "apps/table.h"

#include <fmt/format.h>

#include "apps/compose.h"
#include "tests/support/catch.h"

using namespace wedge::app;

namespace {

LabelledResult result(const std::string& label, const std::string& strategy, double loss,
                      const std::vector<std::string>& overrides = {}) {
  RunResult r;
  r.strategy = strategy;
  r.num_params = strategy == "attention" ? 12585472 : 12607168;
  r.best_val_loss = loss;
  r.tokens_per_second = 1234.5;
  wedge::app::Config config = compose_over({}, overrides);
  config.model.tensor_lifting_strategy = strategy;
  r.config = to_json(config);
  return {label, r};
}

}  // namespace

TEST_CASE("table: one run a model", "[apps]") {
  const std::string table = comparison_table(
      {result("0_attention", "attention", 5.4753), result("1_grassmann", "grassmann", 5.7716)});
  CHECK(table ==
        "| Model         | Params (M) | Best Val Loss | Best Val PPL | tokens/s |\n"
        "|---------------|-----------:|--------------:|-------------:|---------:|\n"
        "| TransformerLM |      12.59 |        5.4753 |       238.72 |     1234 |\n"
        "| GrassmannLM   |      12.61 |        5.7716 |       321.05 |     1234 |\n");
}

TEST_CASE("table: other mixers, huge perplexities, missing speed, the floor", "[apps]") {
  LabelledResult other = result("2", "my|mixer", 23.8336);
  other.result.tokens_per_second.reset();
  other.result.floor = 1.5;
  LabelledResult attention = result("1", "attention", 2.0);
  attention.result.floor = 1.5;
  const std::string table = comparison_table({attention, other});
  CHECK(table ==
        "| Model               | Params (M) | Best Val Loss | Best Val PPL | tokens/s |\n"
        "|---------------------|-----------:|--------------:|-------------:|---------:|\n"
        "| TransformerLM       |      12.59 |        2.0000 |         7.39 |     1234 |\n"
        "| my\\|mixer           |      12.61 |       23.8336 |    2.243e+10 |        - |\n"
        "| floor of the corpus |          - |        1.5000 |         4.48 |        - |\n");
}

TEST_CASE("table: several seeds get a mean and a spread", "[apps]") {
  const std::string table = comparison_table(
      {result("0", "attention", 1.0, {"seed=1"}), result("1", "attention", 2.0, {"seed=2"}),
       result("2", "attention", 3.0, {"seed=3"}), result("3", "grassmann", 2.5, {"seed=1"})});
  CHECK(table ==
        "| Model         | Run             | Params (M) |   Best Val Loss | Best Val PPL | tokens/s |\n"
        "|---------------|-----------------|-----------:|----------------:|-------------:|---------:|\n"
        "| TransformerLM | 0 (seed=1)      |      12.59 |          1.0000 |         2.72 |     1234 |\n"
        "| TransformerLM | 1 (seed=2)      |      12.59 |          2.0000 |         7.39 |     1234 |\n"
        "| TransformerLM | 2 (seed=3)      |      12.59 |          3.0000 |        20.09 |     1234 |\n"
        "| GrassmannLM   | 3 (seed=1)      |      12.61 |          2.5000 |        12.18 |     1234 |\n"
        "| TransformerLM | mean of 3 seeds |      12.59 | 2.0000 ± 1.0000 | 10.06 ± 8.99 |     1234 |\n");
}

TEST_CASE("table: names that users gave are shown where they differ, and part no group", "[apps]") {
  std::vector<LabelledResult> runs = {result("0", "attention", 1.0, {"seed=1", "experiment.name=first try"}),
                                      result("1", "attention", 2.0, {"seed=2", "experiment.name=second"})};
  std::string table = comparison_table(runs);
  CHECK(table.find("| 0, first try (seed=1) ") != std::string::npos);
  CHECK(table.find("| 1, second (seed=2) ") != std::string::npos);
  CHECK(table.find("| mean of 2 seeds ") != std::string::npos);
  runs[1] = result("1", "attention", 2.0, {"seed=2", "experiment.name=first try"});
  table = comparison_table(runs);
  CHECK(table.find("| 0 (seed=1) ") != std::string::npos);
  runs[1].result.config = nullptr;  // of another program
  CHECK(comparison_table(runs).find("| 0, first try") != std::string::npos);
}

TEST_CASE("table: where a corpus lies makes no difference, which one it is does", "[apps]") {
  std::vector<LabelledResult> runs = {result("0", "attention", 1.0, {"seed=1", "data.path=here"}),
                                      result("1", "attention", 2.0, {"seed=2", "data.path=there"})};
  CHECK(comparison_table(runs).find("mean of") == std::string::npos);
  CHECK(comparison_table(runs).find("| 1 (data.path=\"there\" seed=2) ") != std::string::npos);
  runs[0].result.corpus = runs[1].result.corpus = "0123abcd";
  CHECK(comparison_table(runs).find("| mean of 2 seeds ") != std::string::npos);
  CHECK(comparison_table(runs).find("| 1 (seed=2) ") != std::string::npos);
  runs[1].result.corpus = "4567cdef";
  CHECK(comparison_table(runs).find("mean of") == std::string::npos);
  CHECK(comparison_table(runs).find("| 1 (data.path=\"there\" seed=2) ") != std::string::npos);
  runs.push_back(result("2", "attention", 3.0, {"seed=3", "data.path=there"}));  // the first one's, moved
  runs[2].result.corpus = "0123abcd";
  CHECK(comparison_table(runs).find("| 2 (data.path=\"here\" seed=3) ") != std::string::npos);
  CHECK(comparison_table(runs).find("| mean of 2 seeds (data.path=\"here\") ") != std::string::npos);

  std::vector<LabelledResult> same = {result("0", "attention", 1.0, {"seed=1", "data.path=here"}),
                                      result("1", "attention", 2.0, {"seed=2", "data.path=here"})};
  same[0].result.corpus = "0123abcd";
  same[1].result.corpus = "4567cdef";
  CHECK(comparison_table(same).find("mean of") == std::string::npos);
  CHECK(comparison_table(same).find("| 1 (data.path=\"here (corpus 4567cdef)\" seed=2) ") !=
        std::string::npos);
}

TEST_CASE("table: what an older file lacks has its default", "[apps]") {
  std::vector<LabelledResult> runs = {result("0", "attention", 1.0, {"seed=1"}),
                                      result("1", "attention", 2.0, {"seed=2"})};
  runs[0].result.config["train"].erase("amp_on_cpu");
  runs.push_back(result("2", "attention", 3.0, {"seed=3", "train.grad_clip=null"}));
  CHECK(comparison_table(runs).find("| 2 (train.grad_clip=null seed=3) ") != std::string::npos);
  runs.pop_back();
  CHECK(comparison_table(runs).find("| 0 (seed=1) ") != std::string::npos);
  CHECK(comparison_table(runs).find("| mean of 2 seeds ") != std::string::npos);
}

TEST_CASE("table: runs that differ in more than the seed are not averaged", "[apps]") {
  const std::string table = comparison_table(
      {result("0", "attention", 1.0, {"seed=1", "train.learning_rate=0.01", "train.threads=1"}),
       result("1", "attention", 2.0, {"seed=2"})});
  CHECK(table.find("mean of") == std::string::npos);
  CHECK(table.find("0 (train.learning_rate=0.01 seed=1)") != std::string::npos);
}

TEST_CASE("table: a mean says of which configuration", "[apps]") {
  const std::string table =
      comparison_table({result("0", "attention", 1.0, {"seed=1", "train.batch_size=8"}),
                        result("1", "attention", 2.0, {"seed=2", "train.batch_size=8"}),
                        result("2", "attention", 3.0, {"seed=1", "train.batch_size=16"}),
                        result("3", "attention", 4.0, {"seed=2", "train.batch_size=16"})});
  CHECK(table.find("| mean of 2 seeds (train.batch_size=8) ") != std::string::npos);
  CHECK(table.find("| mean of 2 seeds (train.batch_size=16) ") != std::string::npos);
}

TEST_CASE("table: perplexities too large for a double, or for its square", "[apps]") {
  const auto table_of = [](double a, double b) {
    return comparison_table(
        {result("0", "attention", a, {"seed=1"}), result("1", "attention", b, {"seed=2"})});
  };
  CHECK(table_of(4e9, 4e9).find(" | 4000000000.0000 ± 0.0000 |          inf |") != std::string::npos);
  CHECK(table_of(2, 800).find("|          inf |") != std::string::npos);
  CHECK(table_of(2, 800).find("nan") == std::string::npos);
  CHECK(table_of(700, 690).find("| 5.071e+303 ± 7.171e+303 |") != std::string::npos);
}

TEST_CASE("table: runs of different floors say whose each is", "[apps]") {
  std::vector<LabelledResult> runs;
  for (int i = 0; i < 6; ++i) {
    runs.push_back(result(fmt::format("run_{}", i), i == 0 ? "grassmann" : "attention", 2.0));
    runs.back().result.floor = i == 0 ? 1.25 : 1.5;
  }
  const std::string many = comparison_table(runs);
  CHECK(many.find("| floor of the corpus | of run_0 ") != std::string::npos);
  CHECK(many.find("| floor of the corpus | of run_1, run_2, run_3 and 2 more |") != std::string::npos);
  runs.resize(2);  // one run a model
  CHECK(comparison_table(runs).find("| floor of the corpus | of run_1 ") != std::string::npos);
}

TEST_CASE("table: a corpus that another key of data tells apart needs no checksum", "[apps]") {
  std::vector<LabelledResult> runs;
  for (const int rows : {60, 80})
    for (const int seed : {1, 2}) {
      runs.push_back(result(fmt::format("{}", runs.size()), "attention", 1.0 + seed,
                            {fmt::format("data.max_samples_train={}", rows), fmt::format("seed={}", seed)}));
      runs.back().result.corpus = fmt::format("corpus_of_{}", rows);
    }
  const std::string table = comparison_table(runs);
  CHECK(table.find("| 3 (data.max_samples_train=80 seed=2) ") != std::string::npos);
  CHECK(table.find("| mean of 2 seeds (data.max_samples_train=60) ") != std::string::npos);
  runs.back().result.corpus = "another";
  const std::string mixed = comparison_table(runs);
  CHECK(mixed.find("(corpus another)") != std::string::npos);
  CHECK(mixed.find("| mean of 2 seeds (data.max_samples_train=80") == std::string::npos);
}

TEST_CASE("table: a seed counts once in a mean, however many runs have it", "[apps]") {
  const std::string table =
      comparison_table({result("0", "attention", 1.0, {"seed=1"}), result("1", "attention", 1.0, {"seed=1"}),
                        result("2", "attention", 3.0, {"seed=2"})});
  CHECK(table.find("| mean of 2 seeds, 3 runs |      12.59 | 2.0000 ± 1.4142 |") != std::string::npos);
}

TEST_CASE("table: the same run twice is not two seeds", "[apps]") {
  CHECK(comparison_table({result("0", "attention", 1.0), result("1", "attention", 1.0)}).find("mean of") ==
        std::string::npos);
}
