#include "models/language_model.h"

#include <cmath>
#include <set>

#include "models/mixers.h"
#include "models/mixers/grassmann.h"
#include "tensor/rng.h"
#include "tests/support/catch.h"

using namespace wedge;

namespace {

ModelConfig tiny(const std::string& strategy) {
  ModelConfig c;
  c.tensor_lifting_strategy = strategy;
  c.num_layers = 2;
  c.d_model = 16;
  c.num_heads = 2;
  c.d_low = 5;
  c.lags = {1, 2, 4};
  c.vocab_size = 23;
  c.max_context_len = 10;
  return c;
}

Tensor ids_of(std::int64_t B, std::int64_t L, std::int64_t V, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(B * L));
  for (auto& id : ids) id = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(V)));
  return Tensor::from(ids, {B, L});
}

double variance(const Tensor& t) {
  double sum = 0, squares = 0;
  for (const double x : t.to_vector()) {
    sum += x;
    squares += x * x;
  }
  const auto n = static_cast<double>(t.numel());
  return squares / n - sum / n * sum / n;
}

}  // namespace

TEST_CASE("parameter counts are those of the founding experiment", "[models]") {
  ModelConfig c;
  c.vocab_size = 30522;
  CHECK(LanguageModel(c, 1).num_parameters() == 12585472);
  c.tensor_lifting_strategy = "grassmann";
  CHECK(LanguageModel(c, 1).num_parameters() == 12607168);
  c.num_layers = 12;
  c.max_context_len = 256;
  c.lags = {1, 1, 2, 2, 4, 4, 8, 8, 12, 12, 16, 16};
  c.layerwise_lags = true;
  CHECK(LanguageModel(c, 1).num_parameters() == 17400192);
  c.tensor_lifting_strategy = "attention";
  CHECK(LanguageModel(c, 1).num_parameters() == 17356800);
}

TEST_CASE("a position depends on no later token, and on every lag that it should", "[models]") {
  for (const MixerEntry& mixer : mixer_table())
    for (const bool pre_norm : {false, true}) {
      INFO(mixer.name << " pre_norm " << pre_norm);
      ModelConfig c = tiny(mixer.name);
      c.pre_norm = pre_norm;
      const auto model = std::make_unique<LanguageModel>(c, 3, DType::f64);
      model->set_training(false);
      const Tensor ids = ids_of(1, 10, 23, 5), changed = ids.clone();
      constexpr std::int64_t at = 4;
      changed.data<std::int32_t>()[at] = (ids.data<std::int32_t>()[at] + 1) % 23;
      const auto before = model->logits(ids).value().to_vector(),
                 after = model->logits(changed).value().to_vector();
      for (std::int64_t t = 0; t < 10; ++t) {
        bool differs = false;
        for (std::int64_t v = 0; v < 23; ++v) differs |= before[t * 23 + v] != after[t * 23 + v];
        CHECK(differs == (t >= at));
      }
    }
}

TEST_CASE("layerwise lags give each layer its own lag", "[models]") {
  ModelConfig c = tiny("grassmann");
  c.layerwise_lags = true;
  c.lags = {3, 4};
  const auto model = std::make_unique<LanguageModel>(c, 3, DType::f64);
  model->set_training(false);
  const Tensor ids = ids_of(1, 10, 23, 5), changed = ids.clone();
  changed.data<std::int32_t>()[0] = (ids.data<std::int32_t>()[0] + 1) % 23;
  const auto before = model->logits(ids).value().to_vector(),
             after = model->logits(changed).value().to_vector();
  const std::set<std::int64_t> reached = {0, 3, 4, 7};
  for (std::int64_t t = 0; t < 10; ++t) {
    bool differs = false;
    for (std::int64_t v = 0; v < 23; ++v) differs |= before[t * 23 + v] != after[t * 23 + v];
    CHECK(differs == reached.contains(t));
  }
}

TEST_CASE("loss is the cross-entropy of the logits", "[models]") {
  for (const MixerEntry& mixer : mixer_table()) {
    const auto model = std::make_unique<LanguageModel>(tiny(mixer.name), 3, DType::f64);
    model->set_training(false);
    const Tensor ids = ids_of(3, 7, 23, 5), targets = ids_of(3, 7, 23, 6);
    CHECK(model->loss(ids, targets).item() ==
          Approx(cross_entropy(model->logits(ids), targets).item()).epsilon(1e-13));
  }
}

TEST_CASE("dropout: training only, and a function of seed, step and micro-step", "[models]") {
  const auto model = std::make_unique<LanguageModel>(tiny("grassmann"), 3);
  const Tensor ids = ids_of(2, 10, 23, 5), targets = ids_of(2, 10, 23, 6);
  const auto loss = [&](std::uint64_t step, std::uint64_t micro) {
    model->set_dropout_counter(step, micro);
    return model->loss(ids, targets).item();
  };
  const double first = loss(1, 0);
  CHECK(loss(1, 0) == first);
  CHECK(loss(2, 0) != first);
  CHECK(loss(1, 1) != first);
  model->set_training(false);
  const double still = loss(1, 0);
  CHECK(still != first);
  CHECK(loss(2, 0) == still);
}

TEST_CASE("a graph keeps the dropout masks of its own forward pass", "[models]") {
  const auto model = std::make_unique<LanguageModel>(tiny("attention"), 3, DType::f64);
  const Tensor ids = ids_of(2, 10, 23, 5), targets = ids_of(2, 10, 23, 6);
  const auto gradient = [&](bool disturb) {
    for (const auto& [name, p] : model->named_parameters()) p.zero_grad();
    model->set_dropout_counter(1, 0);
    const Variable loss = model->loss(ids, targets);
    if (disturb) model->set_dropout_counter(9, 4);
    loss.backward();
    return model->named_parameters()[0].second.grad().to_vector();
  };
  CHECK(gradient(false) == gradient(true));
}

TEST_CASE("initial weights follow model.init", "[models]") {
  for (const char* init : {"torch", "gpt2"}) {
    INFO(init);
    ModelConfig c = tiny("grassmann");
    c.d_model = 128;
    c.d_low = 16;
    c.vocab_size = 500;
    c.init = init;
    c.weight_tying = false;
    const bool gpt2 = c.init == "gpt2";
    const auto model = std::make_unique<LanguageModel>(c, 11);
    for (const auto& [name, p] : model->named_parameters()) {
      INFO(name);
      const bool is_norm = name.find("norm") != std::string::npos, is_bias = name.ends_with("bias");
      const bool is_embedding = name.find("embedding") != std::string::npos;
      const auto values = p.value().to_vector();
      if (is_norm || (gpt2 && is_bias)) {
        for (const double x : values) REQUIRE(x == (is_norm && !is_bias ? 1.0 : 0.0));
        continue;
      }
      if (p.value().numel() < 1000) continue;  // too few for a variance
      // The fan-in of a bias is that of its weight; here only weights are large enough.
      const double fan_in = static_cast<double>(p.value().size(-1));
      const double expected = gpt2 ? 0.02 * 0.02 : is_embedding ? 1.0 : 1.0 / (3 * fan_in);
      CHECK(variance(p.value()) == Approx(expected).epsilon(0.1));
      if (!gpt2 && !is_embedding)
        for (const double x : values) REQUIRE(std::abs(x) <= 1 / std::sqrt(fan_in) * (1 + 1e-6));
    }
  }
}

TEST_CASE("the same seed gives the same weights, another seed others", "[models]") {
  const auto weights = [](std::uint64_t seed) {
    return LanguageModel(tiny("attention"), seed).named_parameters()[0].second.value().to_vector();
  };
  CHECK(weights(1) == weights(1));
  CHECK(weights(1) != weights(2));
}

TEST_CASE("a configuration that does not fit is refused by name", "[models]") {
  const auto message = [](auto change) -> std::string {
    ModelConfig c = tiny("grassmann");
    change(c);
    try {
      LanguageModel(c, 1);
    } catch (const Error& e) {
      return e.what();
    }
    return "accepted";
  };
  CHECK(message([](ModelConfig&) {}) == "accepted");
  CHECK(message([](ModelConfig& c) { c.tensor_lifting_strategy = "mamba"; }).find("attention, grassmann") !=
        std::string::npos);
  CHECK(message([](ModelConfig& c) { c.d_low = 1; }).find("model.d_low") == 0);
  CHECK(message([](ModelConfig& c) { c.lags = {1, 0}; }).find("model.lags") == 0);
  CHECK(message([](ModelConfig& c) { c.lags = {}; }).find("model.lags") == 0);
  CHECK(message([](ModelConfig& c) { c.layerwise_lags = true; }).find("model.lags") == 0);
  CHECK(message([](ModelConfig& c) { c.num_layers = 0; }).find("model.num_layers") == 0);
  CHECK(message([](ModelConfig& c) { c.vocab_size = 0; }).find("vocab_size") == 0);
  CHECK(message([](ModelConfig& c) { c.init = "xavier"; }).find("model.init") == 0);
  CHECK(message([](ModelConfig& c) { c.dropout_rate = 1; }).find("train.dropout_rate") == 0);
  CHECK(message([](ModelConfig& c) {
          c.tensor_lifting_strategy = "attention";
          c.num_heads = 3;
        }).find("model.d_model") == 0);
}

TEST_CASE("a sequence that is too long is refused", "[models]") {
  const auto model = std::make_unique<LanguageModel>(tiny("attention"), 1);
  CHECK_THROWS_AS(model->logits(ids_of(1, 11, 23, 1)), Error);
}

TEST_CASE("decoding token by token gives the logits of the whole sequence", "[models][decoding]") {
  const std::int64_t B = GENERATE(1, 3), first = GENERATE(1, 2, 7, 40);
  const auto dtype = GENERATE(DType::f64, DType::f32);
  const bool pre_norm = GENERATE(false, true);
  for (const MixerEntry& mixer : mixer_table()) {
    ModelConfig c = tiny(mixer.name);
    c.max_context_len = 40;
    c.pre_norm = pre_norm;
    c.lags = {1, 1, 3, 7};  // longer than a first part, shorter than the sequence
    CAPTURE(mixer.name, B, first, name_of(dtype), pre_norm);
    const auto model = std::make_unique<LanguageModel>(c, 3, dtype);
    model->set_training(false);
    const Tensor ids = ids_of(B, 40, 23, 5);
    const Tensor whole = model->logits(ids).value();
    Decoding decoding = model->start_decoding(B);
    double error = 0;
    for (std::int64_t t = first; t <= 40; ++t) {
      const Variable logits =
          model->extend(t == first ? ids.slice(1, 0, t) : ids.slice(1, t - 1, t), decoding);
      REQUIRE(logits.shape() == Shape{B, 23});
      CHECK(decoding.position == t);
      const auto got = logits.value().to_vector(),
                 expected = whole.slice(1, t - 1, t).contiguous().to_vector();
      for (std::size_t i = 0; i < got.size(); ++i) error = std::max(error, std::abs(got[i] - expected[i]));
    }
    CHECK(error < (dtype == DType::f64 ? 1e-13 : 1e-5));
    CHECK_THROWS_WITH(model->extend(ids.slice(1, 0, 1), decoding),
                      Catch::Matchers::ContainsSubstring("all 40 positions are used up"));
    Decoding none;
    CHECK_THROWS_WITH(model->extend(ids.slice(1, 0, 1), none),
                      Catch::Matchers::ContainsSubstring("start_decoding() of this model gave"));
    const std::string other = mixer.name == "attention" ? "grassmann" : "attention";
    ModelConfig other_config = model->config();
    other_config.tensor_lifting_strategy = other;
    Decoding wrong = LanguageModel(other_config, 1, dtype).start_decoding(B);
    CHECK_THROWS_WITH(model->extend(ids.slice(1, 0, 1), wrong),
                      Catch::Matchers::ContainsSubstring("got another mixer's"));
  }
}

TEST_CASE("decoding: a mixer that says nothing of it is right all the same", "[models][decoding]") {
  const ModelConfig c = tiny("grassmann");
  Init init(c, 1, DType::f64, Device::cpu);
  const GrassmannMixer mixer(c, 0, init);
  Rng rng(2);
  const Variable h = Tensor::normal({2, 9, c.d_model}, rng, 0, 1, DType::f64);
  const auto whole = mixer(h).value().to_vector();
  const auto memory = mixer.Mixer::make_memory(2, 9);
  std::vector<Variable> parts;
  for (std::int64_t t = 0; t < 9; ++t) parts.push_back(mixer.Mixer::extend(slice(h, 1, t, t + 1), *memory));
  const auto steps = concat(parts, 1).value().to_vector();
  for (std::size_t i = 0; i < whole.size(); ++i) CHECK(steps[i] == Approx(whole[i]).margin(1e-13));
}

TEST_CASE("decoding is refused where dropout is on, and in parts after the first", "[models][decoding]") {
  const auto model = std::make_unique<LanguageModel>(tiny("attention"), 3);
  Decoding decoding = model->start_decoding(1);
  CHECK_THROWS_WITH(model->extend(ids_of(1, 1, 23, 1), decoding),
                    Catch::Matchers::ContainsSubstring("evaluation mode"));
  model->set_training(false);
  model->extend(ids_of(1, 3, 23, 1), decoding);
  CHECK_THROWS_WITH(model->extend(ids_of(1, 2, 23, 1), decoding),
                    Catch::Matchers::ContainsSubstring("at position 3"));
}
