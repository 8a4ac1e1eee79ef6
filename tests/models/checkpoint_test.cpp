#include "models/checkpoint.h"

#include "models/language_model.h"
#include "tensor/safetensors.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;

namespace {

ModelConfig tiny(bool tied) {
  ModelConfig c;
  c.tensor_lifting_strategy = "grassmann";
  c.num_layers = 1;
  c.d_model = 8;
  c.d_low = 3;
  c.lags = {1};
  c.vocab_size = 11;
  c.max_context_len = 4;
  c.weight_tying = tied;
  return c;
}

std::vector<std::pair<std::string, Tensor>> tensors_of(const Module& m) {
  std::vector<std::pair<std::string, Tensor>> out;
  for (const auto& [name, p] : m.named_parameters()) out.emplace_back(name, p.value().clone());
  return out;
}

bool equal(const Module& a, const Module& b) {
  const auto x = tensors_of(a), y = tensors_of(b);
  for (std::size_t i = 0; i < x.size(); ++i)
    if (x[i].first != y[i].first || x[i].second.to_vector() != y[i].second.to_vector()) return false;
  return x.size() == y.size();
}

}  // namespace

TEST_CASE("weights survive a file, tied and untied", "[models][checkpoint]") {
  const test::TempDir dir;
  for (const bool tied : {true, false}) {
    const auto a = std::make_unique<LanguageModel>(tiny(tied), 1),
               b = std::make_unique<LanguageModel>(tiny(tied), 2);
    const auto path = dir.path() / "weights.safetensors";
    save_weights(path, *a, {{"seed", "1"}});
    REQUIRE_FALSE(equal(*a, *b));
    load_weights(SafetensorsFile(path), *b);
    CHECK(equal(*a, *b));
    const SafetensorsFile file(path);
    CHECK(file.metadata().at("seed") == "1");
    CHECK(file.contains("lm_head.weight") == !tied);
    CHECK(file.contains("transformer_blocks.0.attention.gate_proj.weight"));
  }
}

TEST_CASE("files from PyTorch: buffers are ignored, a tied head must agree", "[models][checkpoint]") {
  const test::TempDir dir;
  const auto a = std::make_unique<LanguageModel>(tiny(true), 1),
             b = std::make_unique<LanguageModel>(tiny(true), 2);
  const auto path = dir.path() / "torch.safetensors";
  auto tensors = tensors_of(*a);
  tensors.emplace_back("lm_head.weight", tensors[0].second);
  tensors.emplace_back("transformer_blocks.0.attention.idx_i", Tensor::zeros({3}, DType::i64));
  write_safetensors(path, tensors, {});
  load_weights(SafetensorsFile(path), *b);
  CHECK(equal(*a, *b));

  tensors[tensors.size() - 2].second = Tensor::zeros({11, 8});
  write_safetensors(path, tensors, {});
  CHECK_THROWS_AS(load_weights(SafetensorsFile(path), *b), Error);
}

TEST_CASE("a file of another model is refused and changes nothing", "[models][checkpoint]") {
  const test::TempDir dir;
  const auto path = dir.path() / "other.safetensors";
  const auto a = std::make_unique<LanguageModel>(tiny(true), 1),
             b = std::make_unique<LanguageModel>(tiny(true), 2),
             c = std::make_unique<LanguageModel>(tiny(true), 2);
  const auto message = [&](auto change) -> std::string {
    auto tensors = tensors_of(*a);
    change(tensors);
    write_safetensors(path, tensors, {});
    try {
      load_weights(SafetensorsFile(path), *b);
    } catch (const Error& e) {
      return e.what();
    }
    return "accepted";
  };
  CHECK(message([](auto& t) { t.pop_back(); }).find("output_norm.bias is missing") != std::string::npos);
  CHECK(message([](auto& t) { t.back().second = Tensor::zeros({9}); }).find("must be [8], got [9]") !=
        std::string::npos);
  CHECK(message([](auto& t) { t.back().second = Tensor::zeros({8}, DType::i32); }).find("floating") !=
        std::string::npos);
  CHECK(message([](auto& t) { t.emplace_back("extra", Tensor::zeros({1})); }).find("no parameter extra") !=
        std::string::npos);
  CHECK(equal(*b, *c));
}
