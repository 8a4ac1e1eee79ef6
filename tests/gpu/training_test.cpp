// Both models trained on the GPU, beside the CPU: the same losses, the same bits when repeated, checkpoints
// that either device reads.
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "apps/checkpoint_metadata.h"
#include "apps/compose.h"
#include "apps/evaluate.h"
#include "apps/interrupt.h"
#include "apps/run_state.h"
#include "apps/trainer.h"
#include "tensor/cuda/side_stream.h"
#include "tests/apps/tiny_corpus.h"
#include "tests/support/catch.h"
#include "tests/support/gpu.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::app;
using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

// 24 steps of a tiny model over the tiny corpus, dropout included: its masks are the same on both devices.
class Runs {
 public:
  explicit Runs(std::vector<std::string> words, std::int64_t tokens = 500) : words_(std::move(words)) {
    write_tiny_corpus(temp_ / "tokens.safetensors", tokens);
  }

  RunFolder train_on(const std::string& device, const std::string& name,
                     const std::vector<std::string>& more = {}) const {
    const wedge::app::Config config = config_on(device, more);
    const RunFolder folder{temp_ / name};
    fs::create_directories(folder.path);
    ProgressSink quiet;
    train(config, data::load_corpus(config.data, {data::Split::train, data::Split::validation}), &folder,
          quiet);
    return folder;
  }

  // The same, but stopped by SIGTERM when it tells of `step`, and then gone on with.
  RunFolder train_with_a_stop(const std::string& device, const std::string& name, std::int64_t step,
                              const std::vector<std::string>& more) const {
    const wedge::app::Config config = config_on(device, more);
    const data::Corpus corpus = data::load_corpus(config.data, {data::Split::train, data::Split::validation});
    const RunFolder folder{temp_ / name};
    fs::create_directories(folder.path);
    class Stop : public ProgressSink {
     public:
      explicit Stop(std::int64_t at) : at_(at) {}
      void step(const StepReport& report) override {
        if (report.step == at_) std::raise(SIGTERM);
      }

     private:
      std::int64_t at_;
    } stop(step);
    CHECK_THROWS_AS(train(config, corpus, &folder, stop), Interrupted);
    ProgressSink quiet;
    train(config, corpus, &folder, quiet, newest_state(folder));
    return folder;
  }

  void check_on(const std::string& device) const {
    const wedge::app::Config config = config_on(device);
    check_trainable(config, data::load_corpus(config.data, {data::Split::train, data::Split::validation}));
  }

  double evaluate_on(const std::string& device, const fs::path& checkpoint) const {
    const wedge::app::Config config = config_on(device);
    const data::Corpus corpus = data::load_corpus(config.data, {data::Split::validation});
    const data::Blocks blocks(corpus.validation, config.data.max_context_len, "validation");
    const auto model = load_model(read_checkpoint(checkpoint), device == "cuda" ? Device::cuda : Device::cpu);
    return evaluate(*model, blocks, 4).mean_over_tokens;
  }

 private:
  wedge::app::Config config_on(const std::string& device, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = tiny_run(
        temp_ / "tokens.safetensors", {"train.device=" + device, "train.num_epochs=2", "train.max_steps=24",
                                       "train.dropout_rate=0.1", "train.amp=false"});
    all.insert(all.end(), words_.begin(), words_.end());
    all.insert(all.end(), more.begin(), more.end());
    return compose(all, false).front();
  }

  TempDir temp_;
  std::vector<std::string> words_;
};

std::vector<double> step_values(const RunFolder& folder, const std::string& key) {
  std::vector<double> values;
  std::ifstream file(folder.metrics());
  for (std::string line; std::getline(file, line);)
    if (const Json json = Json::parse(line); json.contains("step")) values.push_back(json[key]);
  return values;
}

std::vector<double> step_losses(const RunFolder& folder) {
  return step_values(folder, "loss");
}

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void check_training(const std::vector<std::string>& words) {
  const Runs runs(words);
  const RunFolder cpu = runs.train_on("cpu", "cpu"), gpu = runs.train_on("cuda", "gpu");
  const std::vector<double> want = step_losses(cpu), got = step_losses(gpu);
  REQUIRE(want.size() == 24);
  REQUIRE(got.size() == 24);
  CHECK(got.back() < 0.9 * got.front());
  for (std::size_t i = 0; i < want.size(); ++i) {
    INFO("step " << i);
    CHECK(std::abs(got[i] - want[i]) <= 1e-4 * want[i]);
  }
  CHECK(bytes_of(runs.train_on("cuda", "again").last()) == bytes_of(gpu.last()));

  const double on_gpu = runs.evaluate_on("cuda", gpu.last()), on_cpu = runs.evaluate_on("cpu", gpu.last());
  CHECK(std::abs(on_gpu - on_cpu) <= 1e-5 * on_cpu);
}

}  // namespace

TEST_CASE("gpu: attention trains as on the CPU", "[gpu][train]") {
  if (skip_without_gpu()) return;
  check_training({"model=attention"});
}

TEST_CASE("gpu: Grassmann trains as on the CPU", "[gpu][train]") {
  if (skip_without_gpu()) return;
  check_training({"model=grassmann"});
}

TEST_CASE("gpu: what the kernels cannot do is said before training", "[gpu][train]") {
  if (skip_without_gpu()) return;
  const Runs wide({"model=attention", "model.d_model=160", "model.num_heads=1"});
  CHECK_THROWS_WITH(wide.check_on("cuda"), ContainsSubstring("heads of at most 128 columns, got 160"));
  CHECK_NOTHROW(wide.check_on("cpu"));
  std::string lags = "model.lags=[1";
  for (int lag = 2; lag <= 129; ++lag) lags += "," + std::to_string(lag);
  const Runs many({"model=grassmann", lags + "]"});
  CHECK_THROWS_WITH(many.check_on("cuda"), ContainsSubstring("at most 128 lags, got 129"));
}

// Dropout, clipping at work, warm-up, and 5 batches an epoch of which the last has 2 blocks in place of 4: as
// one step each, and as steps of 3 and 2. In four epochs every shape of a step is run, captured and replayed.
TEST_CASE("gpu: steps replayed as graphs give the same bits", "[gpu][train][graph]") {
  if (skip_without_gpu()) return;
  for (const char* model : {"model=attention", "model=grassmann"})
    for (const bool accumulate : {false, true}) {
      INFO(model << (accumulate ? " accumulated, bfloat16 products" : ""));
      const Runs runs({model, accumulate ? "train.accumulate=3" : "train.accumulate=1",
                       accumulate ? "train.amp=true" : "train.amp=false", "model.num_layers=1",
                       "train.num_epochs=4", "train.warmup_steps=3", "train.grad_clip=0.2"},
                      162);
      const RunFolder eager = runs.train_on("cuda", "eager", {"train.graph=false"}),
                      graph = runs.train_on("cuda", "graph", {"train.graph=true"});
      CHECK(step_losses(graph).size() == (accumulate ? 8 : 20));
      for (const char* key : {"loss", "grad_norm", "learning_rate"})
        CHECK(step_values(graph, key) == step_values(eager, key));
      CHECK(bytes_of(graph.last()) == bytes_of(eager.last()));
      CHECK(bytes_of(graph.best()) == bytes_of(eager.best()));
      if (!accumulate) continue;
      cu::set_side_stream(false);
      const RunFolder alone = runs.train_on("cuda", "alone", {"train.graph=true"});
      cu::set_side_stream(true);
      CHECK(bytes_of(graph.last()) == bytes_of(alone.last()));
    }
}

TEST_CASE("gpu: a run that was stopped and taken up ends with the same bits", "[gpu][train][graph][resume]") {
  if (skip_without_gpu()) return;
  const Runs runs({"model=grassmann", "model.num_layers=1", "train.amp=true", "train.checkpoint_every=5"});
  const RunFolder whole = runs.train_on("cuda", "whole");
  const RunFolder stopped = runs.train_with_a_stop("cuda", "stopped", 4, {});
  CHECK(bytes_of(whole.last()) == bytes_of(stopped.last()));
  CHECK(bytes_of(whole.best()) == bytes_of(stopped.best()));
  CHECK(step_values(whole, "loss") == step_values(stopped, "loss"));
  CHECK(step_values(whole, "grad_norm") == step_values(stopped, "grad_norm"));
}

// The log is read some steps later: the run stops then, and tells of the step where it happened.
TEST_CASE("gpu: a run that diverges names the step, with graphs and without", "[gpu][train][graph]") {
  if (skip_without_gpu()) return;
  // What is said after the run's folder.
  const auto error_of = [](const std::string& graph) -> std::string {
    const Runs runs({"model=attention", "model.num_layers=1", "train.learning_rate=1e30", graph});
    try {
      runs.train_on("cuda", "diverges");
    } catch (const DivergenceError& error) {
      const std::string what = error.what();
      return what.substr(what.find("diverges: "));
    }
    return "";
  };
  const std::string graph = error_of("train.graph=true");
  CHECK_THAT(graph, ContainsSubstring("stopped at step "));
  CHECK(graph == error_of("train.graph=false"));
}

// What bfloat16 products cost: the curve is the float32 one, but for the rounding of factors to 8 bits.
TEST_CASE("gpu: with bfloat16 products the losses stay near those of float32", "[gpu][train]") {
  if (skip_without_gpu()) return;
  for (const char* model : {"model=attention", "model=grassmann"}) {
    const Runs exact({model}), reduced({model, "train.amp=true"});
    const std::vector<double> want = step_losses(exact.train_on("cuda", "exact")),
                              got = step_losses(reduced.train_on("cuda", "reduced"));
    REQUIRE(got.size() == want.size());
    CHECK(got != want);
    for (std::size_t i = 0; i < want.size(); ++i) {
      INFO(model << " step " << i);
      CHECK(std::abs(got[i] - want[i]) <= 0.02 * want[i]);
    }
  }
}

TEST_CASE("gpu: pre-norm, layerwise lags, untied head, accumulated gradients", "[gpu][train]") {
  if (skip_without_gpu()) return;
  check_training({"model=grassmann", "model.pre_norm=true", "model.layerwise_lags=true", "model.lags=[1,3]",
                  "model.weight_tying=false", "train.accumulate=2", "train.num_epochs=4"});
}
