#include "apps/generator.h"

#include <cmath>
#include <filesystem>

#include "apps/config.h"
#include "apps/sampler.h"
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

std::vector<std::int32_t> ids_of(const std::vector<std::pair<std::int32_t, double>>& distribution) {
  std::vector<std::int32_t> ids;
  for (const auto& [id, p] : distribution) ids.push_back(id);
  return ids;
}

}  // namespace

TEST_CASE("sampler: temperature, top_k and top_p", "[apps][generate]") {
  const std::vector<float> logits = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f};  // by probability: 1, 3, 4, 0, 2
  const auto distribution = [&](const SamplerOptions& options) {
    return Sampler(options).distribution(logits);
  };
  double sum = 0;
  for (const float x : logits) sum += std::exp(x / 0.7);
  const auto all = distribution({.temperature = 0.7});
  REQUIRE(ids_of(all) == std::vector<std::int32_t>{0, 1, 2, 3, 4});
  for (const auto& [id, p] : all) CHECK(p == Approx(std::exp(logits[id] / 0.7) / sum));

  CHECK(ids_of(distribution({.temperature = 0})) == std::vector<std::int32_t>{1});
  CHECK(ids_of(distribution({.top_k = 3})) == std::vector<std::int32_t>{1, 3, 4});
  CHECK(ids_of(distribution({.top_k = 9})) == std::vector<std::int32_t>{1, 3, 4, 0, 2});
  CHECK(distribution({.top_k = 2})[0].second == Approx(0.5));
  // p is 0.373, 0.373, 0.137, 0.083, 0.019 (e², e², e, e^½, e⁻¹ over their sum 19.5)
  CHECK(ids_of(distribution({.top_p = 0.3})) == std::vector<std::int32_t>{1});
  CHECK(ids_of(distribution({.top_p = 0.75})) == std::vector<std::int32_t>{1, 3});
  CHECK(ids_of(distribution({.top_p = 0.77})) == std::vector<std::int32_t>{1, 3, 4});
  CHECK(ids_of(distribution({.top_p = 1})).size() == 5);
  // Of the three that top_k leaves, the first two have 0.845.
  CHECK(ids_of(distribution({.top_k = 3, .top_p = 0.84})) == std::vector<std::int32_t>{1, 3});
  double total = 0;
  for (const auto& [id, p] : distribution({.top_k = 3, .top_p = 0.9})) total += p;
  CHECK(total == Approx(1));
}

TEST_CASE("sampler: logits that are not finite are an error", "[apps][generate]") {
  for (const float value : {NAN, INFINITY, -INFINITY}) {
    const std::vector<float> logits = {1, value, 2};
    CHECK_THROWS_WITH(Sampler({.top_k = 2}).distribution(logits), ContainsSubstring("not finite"));
  }
}

TEST_CASE("sampler: draws follow the distribution, and the seed", "[apps][generate]") {
  const std::vector<float> logits = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f};
  Sampler a({.seed = 1}), b({.seed = 1}), c({.seed = 2});
  std::vector<double> counts(5);
  bool differs = false;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    const std::int32_t id = a(logits);
    CHECK(id == b(logits));
    differs |= id != c(logits);
    ++counts[id];
  }
  CHECK(differs);
  for (const auto& [id, p] : a.distribution(logits))
    CHECK(std::abs(counts[id] / kDraws - p) < 4 * std::sqrt(p * (1 - p) / kDraws));
}

TEST_CASE("generator: the logits are those of the whole window, which moves on by halves",
          "[apps][generate]") {
  ModelConfig config;
  config.tensor_lifting_strategy = GENERATE("attention", "grassmann");
  config.num_layers = 2;
  config.d_model = 16;
  config.num_heads = 2;
  config.d_low = 4;
  config.lags = {1, 2, 5};
  config.vocab_size = 12;
  config.max_context_len = GENERATE(1, 8);
  const auto model = std::make_unique<LanguageModel>(config, 1);
  Generator generator(*model, {3, 1, 4});
  std::vector<std::int32_t> text = {3, 1, 4};
  const std::size_t L = config.max_context_len;
  if (L == 1) text = {4};
  for (int i = 0; i < 30; ++i) {
    // All tokens since the window began to be read.
    const auto& window = generator.window();
    REQUIRE(window.size() <= L);
    CHECK(std::equal(window.rbegin(), window.rend(), text.rbegin()));
    const Variable whole = model->logits(Tensor::from(window, {1, std::ssize(window)}));
    const auto expected = whole.value().to_vector();
    for (std::size_t v = 0; v < 12; ++v)
      CHECK(generator.logits()[v] == Approx(expected[expected.size() - 12 + v]).margin(1e-5));
    const auto next = static_cast<std::int32_t>((7 * i + 2) % 12);
    const std::size_t before = window.size();
    generator.push(next);
    text.push_back(next);
    CHECK(generator.window().size() == (before < L ? before + 1 : std::max<std::size_t>(1, L / 2)));
  }
  CHECK_THROWS_AS(Generator(*model, {}), Error);
}

TEST_CASE("generate command: text, stops, and what is wrong", "[apps][generate][command]") {
  const TempDir temp;
  const fs::path cwd = temp / "cwd";
  fs::create_directories(cwd);
  const std::string model = GENERATE("attention", "grassmann");
  REQUIRE(run_wedge(cwd, {"train", "model=" + model, "data=builtin", "experiment=quick",
                          "experiment.run_dir=run", "train.max_steps=30", "model.num_layers=1",
                          "data.max_samples_train=200", "data.max_samples_val=20"})
              .status == 0);
  const auto generate = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"generate", "checkpoint=run"});
    return run_wedge(cwd, words);
  };
  const Outcome once = generate({"prompt=Anna kept", "max_tokens=200"});
  CHECK(once.status == 0);
  CHECK(once.out.starts_with("Anna kept "));
  CHECK(once.out.ends_with("\n"));
  CHECK_THAT(once.err, ContainsSubstring("wedge: 200 tokens, ") &&
                           ContainsSubstring(" a second; before them 2 tokens of the prompt in "));
  CHECK(generate({"prompt=Anna kept", "max_tokens=200"}).out == once.out);
  CHECK(generate({"prompt=Anna kept", "max_tokens=200", "seed=1"}).out != once.out);
  // The beginning of a longer text is the shorter one.
  const Outcome shorter = generate({"prompt=Anna kept", "max_tokens=50"});
  CHECK(once.out.starts_with(shorter.out.substr(0, shorter.out.size() - 1)));
  CHECK(generate({"prompt=Anna kept", "max_tokens=0"}).out == "Anna kept\n");

  const std::size_t point = once.out.find('.');
  REQUIRE(point != std::string::npos);
  CHECK(generate({"prompt=Anna kept", "max_tokens=200", "stop=."}).out == once.out.substr(0, point) + "\n");
  const std::string after = once.out.substr(point, 6);
  CHECK(generate({"prompt=Anna kept", "max_tokens=200", "stop=" + wedge::app::Json({"never", after}).dump()})
            .out == once.out.substr(0, once.out.find(after)) + "\n");
  CHECK(generate({"prompt=Anna kept", "max_tokens=5", "temperature=0", "seed=1"}).out ==
        generate({"prompt=Anna kept", "max_tokens=5", "top_k=1", "seed=2"}).out);

  const auto from_stdin = [&](const std::string& text) {
    return run_shell(cwd, "printf '" + text + "' | \"$wedge\" generate checkpoint=run prompt=- max_tokens=5");
  };
  CHECK(from_stdin("Anna kept\\n").out == generate({"prompt=Anna kept", "max_tokens=5"}).out);
  CHECK(from_stdin("").status == 2);
  CHECK_THAT(from_stdin("\\n").err, ContainsSubstring("expected a text on standard input, got nothing"));

  const auto refused = [&](const std::vector<std::string>& words, const std::string& text) {
    const Outcome outcome = generate(words);
    CAPTURE(outcome.err);
    CHECK(outcome.status == 2);
    CHECK(is_one_error_line(outcome.err));
    CHECK_THAT(outcome.err, ContainsSubstring(text));
    CHECK(outcome.out.empty());
  };
  refused({}, "prompt=TEXT is missing");
  refused({"prompt=The quark"}, "prompt: 'quark' is no word");
  refused({"prompt= "}, "at least one token");
  refused({"prompt=The", "temperature=-1"}, "temperature: expected a number from 0");
  refused({"prompt=The", "temperature=nan"}, "got nan");
  refused({"prompt=The", "top_p=2"}, "top_p: expected a number from 0 to 1, got 2");
  refused({"prompt=The", "top_k=0"}, "top_k: expected an integer, at least 1, got 0");
  refused({"prompt=The", "max_tokens=many"}, "max_tokens");
  refused({"prompt=The", "stop=[1]"}, "stop: expected a text or a JSON list of texts");
  refused({"prompt=The", "stop=[\"."}, "stop: expected a text or a JSON list of texts, got [\".");
  refused({"prompt=The", "stop="}, "stop");
  refused({"prompt=The", "seed=-1"}, "seed: expected an integer, from 0 to 18446744073709551615, got -1");
  refused({"prompt=The", "seed=18446744073709551616"}, "seed: expected an integer");
  refused({"prompt=The", "seed=1.5"}, "seed: expected an integer");
  refused({"prompt=The", "tempreature=1"}, "the nearest is temperature");
  refused({"prompt=The", "prompt=A"}, "prompt is given twice");
  refused({"prompt=The", "train.device=gpu"}, "train.device: must be auto or cpu or cuda, got gpu");
  refused({"prompt=The", "train.threads=0"}, "train.threads");
  CHECK(run_wedge(cwd, {"generate", "checkpoint=nowhere", "prompt=The"}).status == 2);
  CHECK_THAT(
      run_wedge(cwd, {"generate", "checkpoint=nowhere", "prompt=The", "seed=18446744073709551615"}).err,
      ContainsSubstring("nowhere"));
}
