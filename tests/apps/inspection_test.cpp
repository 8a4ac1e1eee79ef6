// wedge inspect against plain float64 loops over the model's own weights.
#include "apps/inspection_report.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <numbers>

#include "tensor/rng.h"
#include "tests/apps/command_runner.h"
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

using Row = std::vector<double>;
using Rows = std::vector<Row>;

// A post-norm model written out from its equations, position by position.
struct Plain {
  explicit Plain(const LanguageModel& model) : config(model.config()) {
    for (const auto& [name, p] : model.named_parameters()) weights[name] = p.value().to_vector();
  }

  Row linear(const Row& x, const std::string& name) const {
    const Row &W = weights.at(name + ".weight"), &b = weights.at(name + ".bias");
    Row y(b);
    for (std::size_t o = 0; o < y.size(); ++o)
      for (std::size_t i = 0; i < x.size(); ++i) y[o] += W[o * x.size() + i] * x[i];
    return y;
  }
  Row norm(const Row& x, const std::string& name) const {
    double mean = 0, variance = 0;
    for (const double v : x) mean += v / static_cast<double>(x.size());
    for (const double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
    Row y(x);
    for (std::size_t i = 0; i < x.size(); ++i)
      y[i] = (x[i] - mean) / std::sqrt(variance + 1e-5) * weights.at(name + ".weight")[i] +
             weights.at(name + ".bias")[i];
    return y;
  }
  static Row add(Row a, const Row& b) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
  }
  static Row wedge(const Row& z, const Row& v) {
    Row p;
    for (std::size_t i = 0; i < z.size(); ++i)
      for (std::size_t j = i + 1; j < z.size(); ++j) p.push_back(z[i] * v[j] - z[j] * v[i]);
    return p;
  }
  static double length(const Row& x) {
    double sum = 0;
    for (const double v : x) sum += v * v;
    return std::sqrt(sum);
  }

  // Fills what a layer has inside, and returns the states after the last one.
  void run(const std::vector<std::int32_t>& ids) {
    const auto d = static_cast<std::size_t>(config.d_model);
    Rows h;
    for (std::size_t t = 0; t < ids.size(); ++t) {
      Row row(d);
      for (std::size_t i = 0; i < d; ++i)
        row[i] = weights["token_embedding.weight"][static_cast<std::size_t>(ids[t]) * d + i] +
                 weights["position_embedding.weight"][t * d + i];
      h.push_back(row);
    }
    for (std::int64_t k = 0; k < config.num_layers; ++k) {
      const std::string block = "transformer_blocks." + std::to_string(k) + ".";
      const Rows mixed =
          config.tensor_lifting_strategy == "grassmann" ? grassmann(h, block) : attention(h, block);
      for (std::size_t t = 0; t < h.size(); ++t) {
        h[t] = norm(config.tensor_lifting_strategy == "grassmann" ? mixed[t] : add(h[t], mixed[t]),
                    block + "attention_norm");
        Row up = linear(h[t], block + "ffn.layers.0");
        for (double& x : up) x = 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
        h[t] = norm(add(h[t], linear(up, block + "ffn.layers.2")), block + "ffn_norm");
      }
    }
  }

  Rows grassmann(const Rows& h, const std::string& block) {
    Rows z, mixed, alphas;
    for (const Row& row : h) z.push_back(linear(row, block + "attention.reduce"));
    for (std::size_t t = 0; t < h.size(); ++t) {
      Row mean(static_cast<std::size_t>(config.d_low * (config.d_low - 1) / 2));
      double n = 0;
      for (const std::int64_t lag : config.lags) n += lag <= static_cast<std::int64_t>(t);
      for (const std::int64_t lag : config.lags) {
        if (lag > static_cast<std::int64_t>(t)) continue;
        Row p = wedge(z[t], z[t - static_cast<std::size_t>(lag)]);
        const double norm = std::max(length(p), 1e-6);
        for (std::size_t i = 0; i < p.size(); ++i) mean[i] += p[i] / norm / n;
      }
      const Row g = linear(mean, block + "attention.expand");
      Row both(h[t]);
      both.insert(both.end(), g.begin(), g.end());
      Row alpha = linear(both, block + "attention.gate_proj"), mix(g);
      for (std::size_t i = 0; i < alpha.size(); ++i) {
        alpha[i] = 1 / (1 + std::exp(-alpha[i]));
        mix[i] = alpha[i] * h[t][i] + (1 - alpha[i]) * g[i];
      }
      alphas.push_back(alpha);
      mixed.push_back(mix);
    }
    states.push_back(z);
    gates.push_back(alphas);
    return mixed;
  }

  Rows attention(const Rows& h, const std::string& block) {
    const auto heads = static_cast<std::size_t>(config.num_heads);
    const std::size_t d = h[0].size(), width = d / heads;
    Rows qkv, mixed(h.size(), Row(d));
    for (const Row& row : h) qkv.push_back(linear(row, block + "attention.qkv_projection"));
    std::vector<Rows> layer(heads);
    for (std::size_t head = 0; head < heads; ++head)
      for (std::size_t t = 0; t < h.size(); ++t) {
        Row w(t + 1);
        double sum = 0;
        for (std::size_t s = 0; s <= t; ++s) {
          double score = 0;
          for (std::size_t i = 0; i < width; ++i)
            score += qkv[t][head * width + i] * qkv[s][d + head * width + i];
          sum += w[s] = std::exp(score / std::sqrt(static_cast<double>(width)));
        }
        for (std::size_t s = 0; s <= t; ++s) {
          w[s] /= sum;
          for (std::size_t i = 0; i < width; ++i)
            mixed[t][head * width + i] += w[s] * qkv[s][2 * d + head * width + i];
        }
        layer[head].push_back(w);
      }
    attentions.push_back(layer);
    for (Row& row : mixed) row = linear(row, block + "attention.out_projection");
    return mixed;
  }

  ModelConfig config;
  std::map<std::string, Row> weights;
  std::vector<Rows> states, gates;            // by layer
  std::vector<std::vector<Rows>> attentions;  // by layer and head: row t has t + 1 weights
};

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

// Singular values of a small matrix by one-sided Jacobi rotations.
Row singular_values(Rows columns) {
  for (int sweep = 0; sweep < 60; ++sweep)
    for (std::size_t i = 0; i < columns.size(); ++i)
      for (std::size_t j = i + 1; j < columns.size(); ++j) {
        double a = 0, b = 0, c = 0;
        for (std::size_t k = 0; k < columns[i].size(); ++k) {
          a += columns[i][k] * columns[i][k];
          b += columns[j][k] * columns[j][k];
          c += columns[i][k] * columns[j][k];
        }
        if (std::abs(c) < 1e-300) continue;
        const double zeta = (b - a) / (2 * c);
        const double t = (zeta >= 0 ? 1 : -1) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
        const double cosine = 1 / std::sqrt(1 + t * t), sine = cosine * t;
        for (std::size_t k = 0; k < columns[i].size(); ++k) {
          const double x = columns[i][k];
          columns[i][k] = cosine * x - sine * columns[j][k];
          columns[j][k] = sine * x + cosine * columns[j][k];
        }
      }
  Row values;
  for (const Row& column : columns) values.push_back(Plain::length(column));
  return values;
}

double rank_of(const Rows& rows) {
  Rows columns(rows[0].size());
  for (const Row& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) columns[i].push_back(row[i]);
  const Row values = singular_values(columns);
  double sum = 0, entropy = 0;
  for (const double v : values) sum += v;
  for (const double v : values)
    if (v > 1e-13 * sum) entropy -= v / sum * std::log(v / sum);
  return std::exp(entropy);
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

TEST_CASE("inspection: effective rank and principal angles of matrices that are known", "[apps][inspect]") {
  CHECK(effective_rank(std::vector<double>{1, 0, 0, 0, 1, 0, 0, 0, 1}, 3) == Approx(3));
  CHECK(effective_rank(std::vector<double>{1, 2, 2, 4, 3, 6, -1, -2}, 2) == Approx(1));
  CHECK(effective_rank(std::vector<double>{0, 0, 0, 0}, 2) == 0);
  CHECK(effective_rank(std::vector<double>{3, 0, 0, 1}, 2) ==
        Approx(std::exp(-0.75 * std::log(0.75) - 0.25 * std::log(0.25))));
  CHECK(effective_rank(std::vector<double>{3, 0, 0, 0, 1, 0}, 3) ==
        Approx(std::exp(-0.75 * std::log(0.75) - 0.25 * std::log(0.25))));  // wider than tall
  const auto angles = principal_angles({{1, 0, 0}, {0, 1, 0}}, {{1, 0, 0}, {0, 1, 1}});
  REQUIRE(angles.size() == 2);
  CHECK(angles[0] == Approx(0).margin(1e-6));
  CHECK(angles[1] == Approx(45));
  CHECK(principal_angles({{2, 0, 0}, {4, 0, 0}}, {{0, 3, 0}}) ==
        std::vector<double>{90});  // one of a plane's two is gone
  const Distribution d = distribution_of({4, 1, 3, 2});
  CHECK(d.mean == 2.5);
  CHECK(d.deviation == Approx(std::sqrt(1.25)));
  CHECK(d.quantiles[3] == 2.5);
  CHECK(d.quantiles[2] == 1.75);
  CHECK(distribution_of({}).count == 0);
}

TEST_CASE("inspection: effective rank of matrices, tall and wide, and with columns that repeat",
          "[apps][inspect]") {
  const auto [tall, wide] =
      GENERATE(std::pair{1, 1}, std::pair{40, 33}, std::pair{70, 66}, std::pair{90, 97});
  const std::int64_t independent = GENERATE(1000, 20);  // columns; the others repeat them
  CAPTURE(tall, wide, independent);
  Rng rng(static_cast<std::uint64_t>(tall));
  const std::vector<double> values = Tensor::normal({tall, wide}, rng, 0, 1, DType::f64).to_vector();
  Rows rows(static_cast<std::size_t>(tall));
  std::vector<double> flat;
  for (std::int64_t i = 0; i < tall; ++i)
    for (std::int64_t j = 0; j < wide; ++j)
      rows[static_cast<std::size_t>(i)].push_back(
          flat.emplace_back(values[static_cast<std::size_t>(i * wide + j % independent)]));
  CHECK(effective_rank(flat, wide) == Approx(rank_of(rows)).epsilon(1e-6));
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
