// Both models against PyTorch: logits, loss, every parameter's gradient and ten AdamW steps, from the
// goldens.

#include "models/language_model.h"
#include "models/optimizer.h"
#include "models/schedule.h"
#include "tensor/json.h"
#include "tensor/safetensors.h"
#include "tests/support/catch.h"

using namespace wedge;

namespace {

struct Golden {
  SafetensorsFile file;
  ModelConfig config;
  nlohmann::json optimizer;

  explicit Golden(const std::string& name) : file(std::string(WEDGE_GOLDENS) + "/" + name + ".safetensors") {
    const auto model = nlohmann::json::parse(file.metadata().at("model"));
    config.tensor_lifting_strategy = model.at("tensor_lifting_strategy");
    config.num_layers = model.at("num_layers");
    config.d_model = model.at("d_model");
    config.num_heads = model.at("num_heads");
    config.expansion_ratio = model.at("expansion_ratio");
    config.d_low = model.at("d_low");
    config.lags = model.at("lags").get<std::vector<std::int64_t>>();
    config.pre_norm = model.at("pre_norm");
    config.layerwise_lags = model.at("layerwise_lags");
    config.weight_tying = model.at("weight_tying");
    config.init = model.at("init");
    config.dropout_rate = 0;
    config.vocab_size = std::stoll(file.metadata().at("vocab_size"));
    config.max_context_len = std::stoll(file.metadata().at("max_context_len"));
    optimizer = nlohmann::json::parse(file.metadata().at("optimizer"));
  }

  std::unique_ptr<LanguageModel> model(DType dtype) const {
    auto m = std::make_unique<LanguageModel>(config, 1, dtype);
    for (const auto& [name, p] : m->named_parameters()) p.set_value(file.tensor("param." + name).to(dtype));
    return m;
  }
};

// max |a - b| / max |b|, over elements [begin, end) of b (all by default); NaN counts as infinite.
double difference(const Tensor& a, const Tensor& b, std::size_t begin = 0, std::size_t end = SIZE_MAX) {
  REQUIRE(a.shape() == b.shape());
  const auto x = a.to_vector(), y = b.to_vector();
  double scale = 0, worst = 0;
  for (std::size_t i = begin; i < std::min(end, y.size()); ++i) {
    scale = std::max(scale, std::abs(y[i]));
    const double d = std::abs(x[i] - y[i]);
    worst = d <= worst ? worst : d;
    if (std::isnan(d)) return HUGE_VAL;
  }
  return worst / scale;
}

// What float32 may lose against a result of float64, and float64 against another order of float64's sums.
double tolerance(DType dtype) {
  return dtype == DType::f64 ? 1e-11 : 2e-5;
}

const std::vector<std::string> kGoldens = {"attention_post", "attention_pre", "grassmann_post",
                                           "grassmann_pre", "grassmann_layerwise"};

}  // namespace

TEST_CASE("models equal PyTorch: logits, loss and gradients", "[models][parity]") {
  for (const std::string& name : kGoldens)
    for (const DType dtype : {DType::f64, DType::f32}) {
      INFO(name << " " << name_of(dtype));
      const Golden golden(name);
      const auto model = golden.model(dtype);
      const Tensor inputs = golden.file.tensor("inputs"), targets = golden.file.tensor("targets");
      CHECK(difference(model->logits(inputs).value(), golden.file.tensor("logits")) < tolerance(dtype));
      const Variable loss = model->loss(inputs, targets);
      CHECK(loss.item() == Approx(golden.file.tensor("loss").item()).epsilon(tolerance(dtype)));
      loss.backward();
      for (const auto& [parameter, p] : model->named_parameters()) {
        INFO(parameter);
        REQUIRE(p.grad().defined());
        const Tensor expected = golden.file.tensor("grad." + parameter);
        if (parameter.ends_with("qkv_projection.bias")) {
          // Its k part has zero gradient in exact arithmetic: what is left is rounding, which no one must
          // agree on.
          const auto d = static_cast<std::size_t>(golden.config.d_model);
          CHECK(difference(p.grad(), expected, 0, d) < tolerance(dtype));
          CHECK(difference(p.grad(), expected, 2 * d, 3 * d) < tolerance(dtype));
          const auto k = p.grad().to_vector();
          for (std::size_t i = d; i < 2 * d; ++i)
            CHECK(std::abs(k[i]) < (dtype == DType::f64 ? 1e-14 : 1e-7));
        } else {
          CHECK(difference(p.grad(), expected) < tolerance(dtype));
        }
      }
    }
}

TEST_CASE("models equal PyTorch: losses of ten AdamW steps", "[models][parity]") {
  for (const std::string& name : kGoldens)
    for (const DType dtype : {DType::f64, DType::f32}) {
      INFO(name << " " << name_of(dtype));
      const Golden golden(name);
      const auto model = golden.model(dtype);
      const std::int64_t steps = golden.optimizer.at("steps");
      const double lr = golden.optimizer.at("learning_rate");
      AdamW optimizer(model->named_parameters(), {.weight_decay = golden.optimizer.at("weight_decay"),
                                                  .grad_clip = golden.optimizer.at("grad_clip")});
      const auto losses = golden.file.tensor("step_losses").to_vector();
      const auto norms = golden.file.tensor("step_grad_norms").to_vector();
      const Tensor inputs = golden.file.tensor("step_inputs"), targets = golden.file.tensor("step_targets");
      REQUIRE(steps == 10);
      for (std::int64_t k = 0; k < steps; ++k) {
        INFO("step " << k);
        const auto batch = [k](const Tensor& all) {
          return all.slice(0, k, k + 1).reshape({all.size(1), all.size(2)});
        };
        optimizer.zero_grad();
        const Variable loss = model->loss(batch(inputs), batch(targets));
        loss.backward();
        optimizer.step(learning_rate_at(k, steps, lr));
        const double norm = optimizer.grad_norm();
        CHECK(loss.item() == Approx(losses[k]).epsilon(dtype == DType::f64 ? 1e-11 : 1e-5));
        CHECK(norm == Approx(norms[k]).epsilon(dtype == DType::f64 ? 1e-9 : 1e-4));
      }
      for (const auto& [parameter, p] : model->named_parameters()) {
        INFO(parameter);
        // Adam turns the k bias's rounding into steps of full size.
        if (parameter.ends_with("qkv_projection.bias")) continue;
        CHECK(difference(p.value(), golden.file.tensor("final." + parameter)) < 2e-5);
      }
    }
}
