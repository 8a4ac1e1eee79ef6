// wedge inspect against plain float64 loops over the model's own weights.
#include "apps/inspection_report.h"

#include <cmath>
#include <filesystem>
#include <numbers>

#include "tests/apps/command_runner.h"
#include "tests/apps/plain_model.h"
#include "tests/apps/tiny_corpus.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/support/threads.h"

using namespace wedge;
using namespace wedge::app;
using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

ModelConfig small(const std::string& strategy) {
  ModelConfig c;
  c.tensor_lifting_strategy = strategy;
  c.num_layers = 3;
  c.d_model = 16;
  c.num_heads = 2;
  c.d_low = 4;
  c.lags = {1, 3};
  c.vocab_size = 12;
  c.max_context_len = 24;
  return c;
}

}  // namespace

TEST_CASE("inspection: Grassmann's figures are those of plain float64 loops", "[apps][inspect]") {
  const auto model = std::make_unique<LanguageModel>(small("grassmann"), 3, DType::f64);
  model->set_training(false);
  const std::vector<std::vector<std::int32_t>> blocks = {tiny_tokens(24, 1), tiny_tokens(24, 2)};
  const Inspection inspection = inspect(*model, blocks);
  REQUIRE(inspection.layers.size() == 3);
  CHECK(inspection.tokens == 48);

  std::vector<Plain> plain(2, Plain(*model));
  for (std::size_t b = 0; b < 2; ++b) plain[b].run(blocks[b]);
  std::vector<Rows> directions(3);  // by layer, of each lag
  for (std::size_t k = 0; k < 3; ++k) {
    REQUIRE(inspection.layers[k].grassmann);
    const GrassmannInspection& layer = *inspection.layers[k].grassmann;
    double alpha = 0, count = 0;
    for (const Plain& p : plain)
      for (const Row& row : p.gates[k])
        for (const double x : row) alpha += x, ++count;
    CHECK(layer.alpha.mean == Approx(alpha / count).epsilon(1e-12));
    CHECK(layer.alpha.count == 48 * 16);

    REQUIRE(layer.lags.size() == 2);
    for (std::size_t l = 0; l < 2; ++l) {
      const auto lag = static_cast<std::size_t>(small("").lags[l]);
      CAPTURE(k, lag);
      Row norms, sines, mean(6);
      Rows units;
      for (const Plain& p : plain)
        for (std::size_t t = lag; t < 24; ++t) {
          const Row &z = p.states[k][t], &v = p.states[k][t - lag];
          Row w = Plain::wedge(z, v);
          norms.push_back(Plain::length(w));
          sines.push_back(norms.back() / (Plain::length(z) * Plain::length(v)));
          for (double& x : w) x /= std::max(norms.back(), 1e-6);
          for (std::size_t i = 0; i < 6; ++i) mean[i] += w[i] / (2.0 * static_cast<double>(24 - lag));
          units.push_back(w);
        }
      const LagInspection& got = layer.lags[l];
      std::sort(norms.begin(), norms.end());
      std::sort(sines.begin(), sines.end());
      CHECK(got.lag == small("").lags[l]);
      CHECK(got.norm.count == std::ssize(norms));
      CHECK(got.norm.min == Approx(norms.front()).epsilon(1e-12));
      CHECK(got.norm.max == Approx(norms.back()).epsilon(1e-12));
      const std::size_t n = norms.size();  // even: the median is between two
      CHECK(got.norm.quantiles[3] == Approx((norms[n / 2 - 1] + norms[n / 2]) / 2).epsilon(1e-12));
      CHECK(got.sine.quantiles[3] == Approx((sines[n / 2 - 1] + sines[n / 2]) / 2).epsilon(1e-12));
      CHECK(got.collapsed == 0);
      CHECK(got.effective_rank == Approx(rank_of(units)).epsilon(1e-9));
      for (std::size_t i = 0; i < 6; ++i) CHECK(got.mean_direction[i] == Approx(mean[i]).margin(1e-13));
      directions[k].push_back(mean);
    }
  }

  const Json json = to_json(inspection);
  REQUIRE(json["drift"].size() == 2);
  for (std::size_t k = 0; k < 2; ++k) {
    // Two lines of 6 numbers each: the spaces are planes. Gram and Schmidt, then the singular values of a 2
    // x 2.
    const auto basis = [](Rows v) {
      for (std::size_t i = 0; i < 2; ++i) {
        for (std::size_t j = 0; j < i; ++j) {
          double dot = 0;
          for (std::size_t x = 0; x < 6; ++x) dot += v[i][x] * v[j][x];
          for (std::size_t x = 0; x < 6; ++x) v[i][x] -= dot * v[j][x];
        }
        const double length = Plain::length(v[i]);
        for (double& x : v[i]) x /= length;
      }
      return v;
    };
    const Rows a = basis(directions[k]), b = basis(directions[k + 1]);
    Rows product(2, Row(2));
    for (std::size_t i = 0; i < 2; ++i)
      for (std::size_t j = 0; j < 2; ++j)
        for (std::size_t x = 0; x < 6; ++x) product[j][i] += a[i][x] * b[j][x];
    Row cosines = singular_values(product);
    std::sort(cosines.rbegin(), cosines.rend());
    for (std::size_t i = 0; i < 2; ++i)
      CHECK(json["drift"][k]["principal_angles"][i].get<double>() ==
            Approx(std::acos(std::min(1.0, cosines[i])) * 180 / std::numbers::pi).margin(1e-5));
    for (std::size_t l = 0; l < 2; ++l) {
      double dot = 0;
      for (std::size_t x = 0; x < 6; ++x) dot += directions[k][l][x] * directions[k + 1][l][x];
      dot /= Plain::length(directions[k][l]) * Plain::length(directions[k + 1][l]);
      CHECK(json["drift"][k]["by_lag"][l]["degrees"].get<double>() ==
            Approx(std::acos(dot) * 180 / std::numbers::pi).epsilon(1e-9));
    }
  }
}

TEST_CASE("inspection: attention's figures are those of plain float64 loops", "[apps][inspect]") {
  const auto model = std::make_unique<LanguageModel>(small("attention"), 3, DType::f64);
  model->set_training(false);
  const std::vector<std::int32_t> ids = tiny_tokens(24, 1);
  const Inspection inspection = inspect(*model, {ids});
  Plain plain(*model);
  plain.run(ids);
  for (std::size_t k = 0; k < 3; ++k)
    for (std::size_t head = 0; head < 2; ++head) {
      double entropy = 0, relative = 0, distance = 0;
      for (std::size_t t = 0; t < 24; ++t) {
        double of_row = 0;
        for (std::size_t s = 0; s <= t; ++s) {
          const double w = plain.attentions[k][head][t][s];
          of_row -= w * std::log(w);
          distance += w * static_cast<double>(t - s) / 24;
        }
        entropy += of_row / 24;
        if (t > 0) relative += of_row / std::log(t + 1.0) / 23;
      }
      const HeadInspection& got = inspection.layers[k].heads[head];
      CHECK(got.entropy == Approx(entropy).epsilon(1e-11));
      CHECK(got.relative_entropy == Approx(relative).epsilon(1e-11));
      CHECK(got.distance == Approx(distance).epsilon(1e-11));
    }
  CHECK_FALSE(to_json(inspection).contains("drift"));
}

TEST_CASE("inspection: states that collapse are counted", "[apps][inspect]") {
  ModelConfig config = small("grassmann");
  const auto model = std::make_unique<LanguageModel>(config, 3, DType::f64);
  for (const auto& [name, p] : model->named_parameters())
    if (name == "transformer_blocks.1.attention.reduce.weight")
      p.set_value(Tensor::zeros(p.shape(), DType::f64));  // z is the bias: all planes are gone
  model->set_training(false);
  const Inspection inspection = inspect(*model, {tiny_tokens(24, 1)});
  CHECK(inspection.layers[1].grassmann->lags[0].collapsed == 1);
  CHECK(inspection.layers[0].grassmann->lags[0].collapsed == 0);
  CHECK(to_json(inspection)["collapse"]["smallest_norm"].get<double>() < 1e-15);
}

TEST_CASE("inspection: the same with any number of threads", "[apps][inspect]") {
  const auto model = std::make_unique<LanguageModel>(small("grassmann"), 3, DType::f64);
  model->set_training(false);
  std::string first;
  for (const int threads : {1, 2, 5}) {
    const Threads count(threads);
    const std::string found = to_json(inspect(*model, {tiny_tokens(24, 1)})).dump();
    if (first.empty()) first = found;
    CHECK(found == first);
  }
}

TEST_CASE("inspection: of a lag that is not shorter than the text nothing is known", "[apps][inspect]") {
  ModelConfig config = small("grassmann");
  const bool all = GENERATE(false, true);
  config.lags = all ? std::vector<std::int64_t>{12, 20} : std::vector<std::int64_t>{1, 12};
  const auto model = std::make_unique<LanguageModel>(config, 3, DType::f64);
  model->set_training(false);
  const Inspection inspection = inspect(*model, {tiny_tokens(12, 1)});
  const Json layer = Json::parse(to_json(inspection).dump())["layers"][0];
  CHECK(layer["effective_rank"].is_null() == all);
  for (const Json& lag : layer["lags"]) {
    const bool known = lag["lag"] == 1;
    CHECK(lag["norm"]["count"] == (known ? 11 : 0));
    for (const char* key : {"collapsed", "effective_rank", "mean_direction_length"})
      CHECK(lag[key].is_null() != known);
    CHECK(lag["norm"]["p50"].is_null() != known);
  }
  CHECK_THAT(summary(inspection),
             ContainsSubstring("0   12            -           -          -            -"));
  CHECK(summary(inspection).find("nan") == std::string::npos);
  if (std::system("gnuplot --version > /dev/null 2>&1") != 0) return;
  HtmlPage page("it");
  describe(inspection, page);
  const std::string html = page.finish();
  CHECK((html.find("Median of the norm: there are no values.") != std::string::npos) == all);
  CHECK(html.find(">lag 12<") == std::string::npos);
}

TEST_CASE("inspect command", "[apps][inspect][command]") {
  const TempDir temp;
  const fs::path cwd = temp / "cwd";
  fs::create_directories(cwd);
  write_tiny_corpus(cwd / "tokens.safetensors");
  const std::string model = GENERATE("attention", "grassmann");
  REQUIRE(
      run_wedge(cwd, tiny_train({"model=" + model, "experiment.run_dir=run", "train.num_epochs=1"})).status ==
      0);
  const Outcome outcome = run_wedge(cwd, {"inspect", "checkpoint=run", "max_tokens=40", "out=look"});
  CAPTURE(outcome.err);
  const Json json = Json::parse(slurp(cwd / "look" / "inspect.json"));
  CHECK(json["model"] == model);
  CHECK(json["tokens"] == 40);
  CHECK(json["layers"].size() == 2);
  CHECK_THAT(outcome.out, ContainsSubstring("layer"));
  if (outcome.err.find("gnuplot") != std::string::npos) {
    WARN("no gnuplot: no page");
  } else {
    CHECK(outcome.status == 0);
    CHECK_THAT(slurp(cwd / "look" / "inspect.html"), ContainsSubstring("<svg"));
  }
  // Without gnuplot there is all but the page, and a word about it.
  const Outcome without =
      run_shell(cwd, "PATH=/nowhere \"$wedge\" inspect checkpoint=run max_tokens=40 out=without");
  CHECK(without.status == 0);
  CHECK_THAT(without.out, ContainsSubstring("layer") && ContainsSubstring("without/inspect.json"));
  CHECK_THAT(without.err, ContainsSubstring("wedge: inspect.html is left out: cannot run gnuplot"));
  CHECK(fs::exists(cwd / "without/inspect.json"));
  CHECK_FALSE(fs::exists(cwd / "without/inspect.html"));

  // A path may be no UTF-8.
  fs::create_directories(cwd / "caf\xe9");
  fs::copy(cwd / "run/best.safetensors", cwd / "caf\xe9/best.safetensors");
  CHECK(run_wedge(cwd, {"inspect", "checkpoint=caf\xe9", "max_tokens=40"}).status == 0);
  CHECK(Json::parse(slurp(cwd / "caf\xe9/inspect.json"))["checkpoint"] == "caf\xef\xbf\xbd/best.safetensors");

  const auto refused = [&](std::vector<std::string> arguments, const std::string& text) {
    arguments.insert(arguments.begin(), "inspect");
    const Outcome bad = run_wedge(cwd, arguments);
    CAPTURE(bad.err);
    CHECK(bad.status == 2);
    CHECK(is_one_error_line(bad.err));
    CHECK_THAT(bad.err, ContainsSubstring(text));
  };
  refused({}, "checkpoint=FILE_OR_RUN_DIR is missing");
  refused({"checkpoint=run", "max_tokens=0"}, "max_tokens: expected an integer, at least 1");
  refused({"checkpoint=run", "model.d_low=3"}, "inspect: model.d_low comes with the checkpoint");
  refused({"checkpoint=run", "outt=x"}, "unknown key 'outt'");
  std::string weights = slurp(cwd / "run" / "best.safetensors");
  weights.replace(weights.size() - 4, 4, std::string("\0\0\xc0\x7f", 4));  // the last number is none now
  spill(cwd / "nan.safetensors", weights);
  refused({"checkpoint=nan.safetensors", "out=nan"}, "are finite");
  CHECK_FALSE(fs::exists(cwd / "nan" / "inspect.json"));
}
