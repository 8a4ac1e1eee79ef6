#include "apps/trainer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "apps/checkpoint_metadata.h"
#include "apps/compose.h"
#include "apps/divergence.h"
#include "apps/evaluate.h"
#include "kernels/cpu/amx_tile.h"
#include "models/checkpoint.h"
#include "models/schedule.h"
#include "tests/apps/command_runner.h"
#include "tests/apps/tiny_corpus.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::app;
using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

// A tiny corpus in a folder of its own: 500 training tokens are 55 blocks of 9, 14 batches of 4 (the last has
// 3).
struct Tiny {
  Tiny() {
    write_tiny_corpus(temp / "tokens.safetensors");
    corpus = data::load_corpus(config({}).data, {data::Split::train, data::Split::validation});
  }

  wedge::app::Config config(const std::vector<std::string>& words) const {
    return compose(tiny_run(temp / "tokens.safetensors", words), false).front();
  }

  // Trains into temp/NAME.
  RunResult run(const std::string& name, const std::vector<std::string>& words) const {
    ProgressSink quiet;
    const RunFolder folder{temp / name};
    fs::create_directories(folder.path);
    return train(config(words), corpus, &folder, quiet);
  }

  TempDir temp;
  data::Corpus corpus;
};

std::vector<Json> read_lines(const fs::path& path, const std::string& key) {
  std::vector<Json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (const Json json = Json::parse(line); json.contains(key)) lines.push_back(json);
  return lines;
}

// The largest difference between equally named tensors of two checkpoints. The bias of q, k and v is left
// out: its k part has zero gradient in exact arithmetic, and Adam makes full steps of the rounding noise.
double largest_difference(const fs::path& a, const fs::path& b) {
  const SafetensorsFile x(a), y(b);
  REQUIRE(x.entries().size() == y.entries().size());
  double largest = 0;
  for (const auto& [name, entry] : x.entries()) {
    if (name.ends_with("qkv_projection.bias")) continue;
    const auto u = x.tensor(name).to_vector(), v = y.tensor(name).to_vector();
    REQUIRE(u.size() == v.size());
    for (std::size_t i = 0; i < u.size(); ++i) largest = std::max(largest, std::abs(u[i] - v[i]));
  }
  return largest;
}

}  // namespace

TEST_CASE("trainer: a run learns and writes its files", "[apps][trainer]") {
  const Tiny tiny;
  const std::string strategy = GENERATE("attention", "grassmann");
  const RunResult result = tiny.run("run", {"model=" + strategy, "train.num_epochs=12"});
  const RunFolder folder{tiny.temp / "run"};
  REQUIRE(result.val_losses.size() == 12);
  CHECK(result.val_losses.back() < 0.75 * std::log(kTinyVocab));  // uniform guessing costs log(12)
  CHECK(result.best_val_loss == *std::min_element(result.val_losses.begin(), result.val_losses.end()));
  CHECK(result.strategy == strategy);

  const Json json = Json::parse(slurp(folder.results()));
  CHECK(json["strategy"] == strategy);
  CHECK(json["val_losses"].get<std::vector<double>>() == result.val_losses);
  CHECK(json["train_losses"].size() == 12);
  CHECK(json["best_val_ppl"].get<double>() == Approx(std::exp(result.best_val_loss)));
  CHECK(json["num_params"] == result.num_params);
  CHECK(json["tokens_per_second"].get<double>() > 0);
  CHECK(json["config"] == Json::parse(slurp(folder.config())));

  const auto steps = read_lines(folder.metrics(), "step");
  REQUIRE(steps.size() == 12 * 14);
  for (std::size_t k = 0; k < steps.size(); ++k) {
    CHECK(steps[k]["step"] == k);
    CHECK(steps[k]["epoch"] == k / 14 + 1);
    CHECK(steps[k]["learning_rate"].get<double>() ==
          Approx(learning_rate_at(static_cast<std::int64_t>(k), 12 * 14, 0.01)).margin(1e-12));
    CHECK(steps[k]["grad_norm"].get<double>() > 0);
    CHECK(steps[k]["tokens_per_second"].get<double>() > 0);
  }
  const auto epochs = read_lines(folder.metrics(), "val_loss");
  REQUIRE(epochs.size() == 12);
  for (std::size_t e = 0; e < 12; ++e) {
    CHECK(epochs[e]["epoch"] == e + 1);
    CHECK(epochs[e]["val_loss"].get<double>() == result.val_losses[e]);
    double mean = 0;  // over the epoch's batches, the small last one counting as much as the others
    for (std::size_t k = 14 * e; k < 14 * (e + 1); ++k) mean += steps[k]["loss"].get<double>() / 14;
    CHECK(epochs[e]["train_loss"].get<double>() == Approx(mean));
    CHECK(result.train_losses[e] == Approx(mean));
  }
}

TEST_CASE("trainer: the best checkpoint is the best epoch's", "[apps][trainer]") {
  const Tiny tiny;
  // A large learning rate late in training makes the last epoch worse than an earlier one.
  const RunResult result = tiny.run("run", {"train.num_epochs=6", "train.learning_rate=0.2", "seed=3"});
  const Checkpoint best = read_checkpoint(tiny.temp / "run");
  const Checkpoint last = read_checkpoint(tiny.temp / "run/last.safetensors");
  const data::Blocks blocks(tiny.corpus.validation, 8, "validation");
  CHECK(evaluate(*load_model(best), blocks, 4).mean_over_batches ==
        Approx(result.best_val_loss).epsilon(1e-6));
  CHECK(evaluate(*load_model(last), blocks, 4).mean_over_batches ==
        Approx(result.val_losses.back()).epsilon(1e-6));
}

TEST_CASE("trainer: equal runs give equal bytes", "[apps][trainer]") {
  const Tiny tiny;
  const std::string model = GENERATE("model=attention", "model=grassmann");
  tiny.run("a", {model});
  tiny.run("b", {model, "experiment.run_dir=elsewhere", "train.num_workers=3"});
  tiny.run("other", {model, "seed=43"});
  for (const char* file : {"last.safetensors", "best.safetensors"})
    CHECK(slurp(tiny.temp / "a" / file) == slurp(tiny.temp / "b" / file));
  CHECK(slurp(tiny.temp / "a/last.safetensors") != slurp(tiny.temp / "other/last.safetensors"));
}

TEST_CASE("trainer: accumulated batches equal one large batch", "[apps][trainer]") {
  const Tiny tiny;
  // 14 batches of 4 blocks in steps of 3: the last step has two batches, of 4 and of 3 blocks.
  const std::vector<std::string> common = {"train.dropout_rate=0", "train.num_epochs=3"};
  auto accumulated = common, large = common;
  accumulated.push_back("train.accumulate=3");
  large.push_back("train.batch_size=12");
  tiny.run("accumulated", accumulated);
  tiny.run("large", large);
  const auto a = read_lines(tiny.temp / "accumulated/metrics.jsonl", "step");
  const auto b = read_lines(tiny.temp / "large/metrics.jsonl", "step");
  REQUIRE(a.size() == 15);
  REQUIRE(b.size() == 15);
  for (std::size_t k = 0; k < a.size(); ++k) {
    CHECK(a[k]["loss"].get<double>() == Approx(b[k]["loss"].get<double>()).epsilon(1e-5));
    CHECK(a[k]["grad_norm"].get<double>() == Approx(b[k]["grad_norm"].get<double>()).epsilon(1e-4));
    CHECK(a[k]["learning_rate"] == b[k]["learning_rate"]);
  }
  CHECK(largest_difference(tiny.temp / "accumulated/last.safetensors", tiny.temp / "large/last.safetensors") <
        1e-3);
}

TEST_CASE("trainer: max_steps stops early on the full run's schedule", "[apps][trainer]") {
  const Tiny tiny;
  const RunResult whole = tiny.run("whole", {});
  const RunResult cut = tiny.run("cut", {"train.max_steps=17"});
  const auto a = read_lines(tiny.temp / "whole/metrics.jsonl", "step");
  const auto b = read_lines(tiny.temp / "cut/metrics.jsonl", "step");
  REQUIRE(a.size() == 28);
  REQUIRE(b.size() == 17);
  for (std::size_t k = 0; k < b.size(); ++k) {
    CHECK(a[k]["loss"] == b[k]["loss"]);
    CHECK(a[k]["learning_rate"] == b[k]["learning_rate"]);
  }
  REQUIRE(cut.val_losses.size() == 2);
  CHECK(cut.val_losses[0] == whole.val_losses[0]);
  double mean = 0;  // the second epoch had three batches
  for (std::size_t k = 14; k < 17; ++k) mean += b[k]["loss"].get<double>() / 3;
  CHECK(cut.train_losses[1] == Approx(mean));
  for (const char* file : {"results.json", "best.safetensors", "last.safetensors"})
    CHECK(fs::exists(tiny.temp / "cut" / file));
  CHECK(tiny.run("far", {"train.max_steps=1000"}).val_losses == whole.val_losses);
}

TEST_CASE("trainer: warm-up, clipping off, order of blocks", "[apps][trainer]") {
  const Tiny tiny;
  tiny.run("plain", {});
  tiny.run("warm", {"train.warmup_steps=5"});
  const auto warm = read_lines(tiny.temp / "warm/metrics.jsonl", "step");
  CHECK(warm[0]["learning_rate"].get<double>() == Approx(0.002));
  CHECK(warm[4]["learning_rate"].get<double>() == Approx(0.01));
  CHECK(warm[27]["learning_rate"].get<double>() < 1e-4);

  // Tight clipping changes the weights but not the norm that is reported before it.
  tiny.run("tight", {"train.grad_clip=0.001"});
  tiny.run("off", {"train.grad_clip=null"});
  const auto first = [&](const char* name) {
    return read_lines(tiny.temp / name / "metrics.jsonl", "step")[0];
  };
  CHECK(first("tight")["grad_norm"] == first("off")["grad_norm"]);
  CHECK(slurp(tiny.temp / "tight/last.safetensors") != slurp(tiny.temp / "off/last.safetensors"));

  const auto first_loss = [&](const std::string& name, const std::string& word) {
    tiny.run(name, {word});
    return read_lines(tiny.temp / name / "metrics.jsonl", "step")[0]["loss"].get<double>();
  };
  CHECK(first_loss("in order", "train.shuffle=false") != first_loss("shuffled", "train.shuffle=true"));
}

TEST_CASE("trainer: a run that diverges stops at a named step", "[apps][trainer]") {
  const Tiny tiny;
  std::string message;
  try {
    tiny.run("run", {"train.learning_rate=1e30"});
  } catch (const DivergenceError& error) {
    message = error.what();
  }
  CHECK_THAT(message, ContainsSubstring("stopped at step "));
  CHECK(!fs::exists(tiny.temp / "run/results.json"));
  CHECK(!fs::exists(tiny.temp / "run/last.safetensors"));
  const auto divergence = divergence_of({tiny.temp / "run"});  // as the log's last line has it
  REQUIRE(divergence.has_value());
  CHECK(message.ends_with(fmt::format("stopped at step {}: {}", divergence->step, divergence->why)));

  // Weight decay of 3 a step multiplies every weight by -2: some epochs pass before the numbers run out.
  message.clear();
  const RunFolder late{tiny.temp / "late"};
  try {
    tiny.run("late", {"train.num_epochs=20", "train.weight_decay=300"});
  } catch (const DivergenceError& error) {
    message = error.what();
  }
  const auto steps = read_lines(late.metrics(), "step");
  const auto epochs = read_lines(late.metrics(), "val_loss");
  REQUIRE(steps.size() >= 14);
  REQUIRE(epochs.size() >= 1);
  CHECK_THAT(message, ContainsSubstring(fmt::format("stopped at step {}: ", steps.size())) &&
                          ContainsSubstring("the last good checkpoint is " + late.last().string()));
  CHECK(!fs::exists(late.results()));
  CHECK(read_lines(late.metrics(), "diverged_at").size() == 1);
  // Taken up again it diverges again, and says so once.
  CHECK_THROWS_AS(tiny.run("late", {"train.num_epochs=20", "train.weight_decay=300"}), DivergenceError);
  CHECK(read_lines(late.metrics(), "diverged_at").size() == 1);
  CHECK(divergence_of(late)->step == std::ssize(steps));
  // That checkpoint is the last finished epoch's, and whole.
  const data::Blocks blocks(tiny.corpus.validation, 8, "validation");
  CHECK(evaluate(*load_model(read_checkpoint(late.last())), blocks, 4).mean_over_batches ==
        Approx(epochs.back()["val_loss"].get<double>()).epsilon(1e-6));
}

TEST_CASE("trainer: init_from starts where another run ended", "[apps][trainer]") {
  const Tiny tiny;
  const RunResult first = tiny.run("first", {});
  const std::string last = (tiny.temp / "first/last.safetensors").string();
  const RunResult second =
      tiny.run("second", {"train.init_from=" + last, "train.learning_rate=0", "train.num_epochs=1"});
  CHECK(second.val_losses[0] == first.val_losses.back());
  CHECK(largest_difference(tiny.temp / "second/last.safetensors", last) == 0);
  // A run's folder means its best.
  tiny.run("third", {"train.init_from=" + (tiny.temp / "first").string(), "train.learning_rate=0",
                     "train.num_epochs=1"});
  CHECK(largest_difference(tiny.temp / "third/last.safetensors", tiny.temp / "first/best.safetensors") == 0);
}

TEST_CASE("trainer: a checkpoint tells what it is, and nothing of the run", "[apps][trainer]") {
  const Tiny tiny;
  tiny.run("run", {"model.lags=[1,3]", "seed=7", "train.threads=1", "experiment.name=secret"});
  const SafetensorsFile file(tiny.temp / "run/best.safetensors");
  const auto& metadata = file.metadata();
  CHECK(Json::parse(metadata.at("model"))["lags"] == Json({1, 3}));
  CHECK(Json::parse(metadata.at("data"))["max_context_len"] == 8);
  CHECK(Json::parse(metadata.at("train"))["batch_size"] == 4);
  CHECK(!Json::parse(metadata.at("train")).contains("threads"));
  CHECK(metadata.at("seed") == "7");
  CHECK(metadata.at("vocab_size") == std::to_string(kTinyVocab));
  CHECK(!metadata.contains("vocabulary"));  // the corpus came as ids
  for (const auto& [key, value] : metadata) CHECK(value.find("secret") == std::string::npos);

  const auto with_words = make_metadata(tiny.config({}), 3, {"a", "##b", "[UNK]"});
  CHECK(with_words.at("vocabulary") == "a\n##b\n[UNK]");
}

TEST_CASE("trainer: a checkpoint that does not fit its metadata is refused", "[apps][trainer]") {
  const Tiny tiny;
  tiny.run("run", {});
  const SafetensorsFile file(tiny.temp / "run/last.safetensors");
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& [name, entry] : file.entries()) tensors.emplace_back(name, file.tensor(name));
  const auto fails = [&](const std::string& key, const std::string& value, const std::string& why) {
    auto metadata = file.metadata();
    metadata[key] = value;
    write_safetensors(tiny.temp / "changed.safetensors", tensors, metadata);
    INFO(key << "=" << value);
    CHECK_THROWS_WITH(load_model(read_checkpoint(tiny.temp / "changed.safetensors")),
                      ContainsSubstring("changed.safetensors") && ContainsSubstring(why));
  };
  const auto model = [&](const std::string& key, const Json& value) {
    Json json = Json::parse(file.metadata().at("model"));
    json[key] = value;
    return json.dump();
  };
  fails("vocab_size", "13", "token_embedding.weight");
  fails("vocab_size", "x", "vocab_size is no number");
  fails("format_version", "2", "format version '2'");
  fails("model", "{", "model is not a JSON object");
  fails("model", model("d_model", 32), "token_embedding.weight");
  fails("model", model("num_layers", 3), "transformer_blocks.2.");
  fails("model", model("num_layers", 1), "transformer_blocks.1.");
  fails("model", model("num_layers", "two"), "model.num_layers: expected an integer");
  fails("model", model("tensor_lifting_strategy", "grassmann"), "attention.");
  fails("data", R"({"max_context_len": 9})", "position_embedding.weight");
  fails("vocabulary", "a\nb", "vocabulary has 2 entries");
}

// Wide enough for the matrix unit: what is rounded there shows in the losses, and no more than that.
TEST_CASE("trainer: with train.amp_on_cpu products are of rounded factors", "[apps][trainer]") {
  if (!cpu::has_amx()) {
    WARN("skipped: no AMX");
    return;
  }
  const Tiny tiny;
  const auto loss = [&](const std::string& name, const std::string& on_cpu) {
    return tiny
        .run(name, {"model.d_model=64", "train.device=cpu", "train.num_epochs=1", "train.batch_size=8",
                    "train.amp_on_cpu=" + on_cpu})
        .best_val_loss;
  };
  const double exact = loss("exact", "false"), rounded = loss("rounded", "true");
  CHECK(rounded != exact);
  CHECK(rounded == Approx(exact).epsilon(0.01));
  CHECK(loss("again", "true") == rounded);
  CHECK(loss("exact again", "false") == exact);
}

TEST_CASE("trainer: what cannot be trained is said before", "[apps][trainer]") {
  const Tiny tiny;
  CHECK_NOTHROW(check_trainable(tiny.config({}), tiny.corpus));
  CHECK_THROWS_WITH(check_trainable(tiny.config({"data.max_context_len=120"}), tiny.corpus),
                    ContainsSubstring("validation"));
  CHECK_THROWS_WITH(check_trainable(tiny.config({"data.max_context_len=600"}), tiny.corpus),
                    ContainsSubstring("train"));
  tiny.run("run", {});
  const std::string last = "train.init_from=" + (tiny.temp / "run/last.safetensors").string();
  CHECK_NOTHROW(check_trainable(tiny.config({last}), tiny.corpus));
  CHECK_THROWS_WITH(check_trainable(tiny.config({last, "model.d_model=32"}), tiny.corpus),
                    ContainsSubstring("[12, 32]"));
  const auto rounded = [&] {
    check_trainable(tiny.config({"train.device=cpu", "train.amp_on_cpu=true"}), tiny.corpus);
  };
  if (cpu::has_amx())
    CHECK_NOTHROW(rounded());
  else
    CHECK_THROWS_WITH(rounded(),
                      ContainsSubstring("train.amp_on_cpu: expected a processor with Intel's AMX"));
}
