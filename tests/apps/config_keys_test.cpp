#include "apps/config_keys.h"

#include <map>
#include <set>

#include "tensor/check.h"
#include "tests/support/catch.h"

using namespace wedge;
using namespace wedge::app;

namespace {

// The message of the error that setting `name` to `value` throws; "" when it throws none.
std::string error_of(const std::string& name, const Json& value) {
  Config config;
  try {
    set_key(config, find_key(name), value);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("config keys: the founding experiment's defaults", "[apps]") {
  // As JSON.
  const std::map<std::string, std::string> defaults = {
      {"model.tensor_lifting_strategy", "\"attention\""},
      {"model.num_layers", "6"},
      {"model.d_model", "256"},
      {"model.num_heads", "4"},
      {"model.expansion_ratio", "4"},
      {"model.d_low", "32"},
      {"model.lags", "[1,2,4,8,12,16]"},
      {"model.pre_norm", "false"},
      {"model.layerwise_lags", "false"},
      {"model.weight_tying", "true"},
      {"model.init", "\"torch\""},
      {"data.max_context_len", "128"},
      {"data.max_samples_train", "null"},
      {"data.max_samples_val", "null"},
      {"train.device", "\"auto\""},
      {"train.batch_size", "32"},
      {"train.num_epochs", "30"},
      {"train.learning_rate", "0.001"},
      {"train.weight_decay", "0.01"},
      {"train.grad_clip", "1.0"},
      {"train.dropout_rate", "0.1"},
      {"train.amp", "true"},
      {"train.amp_on_cpu", "false"},
      {"train.accumulate", "1"},
      {"train.warmup_steps", "0"},
      {"train.max_steps", "null"},
      {"train.shuffle", "true"},
      {"train.init_from", "null"},
      {"seed", "42"},
  };
  for (const auto& [name, value] : defaults) {
    INFO(name);
    CHECK(get_key(Config{}, find_key(name)).dump() == value);
  }
}

TEST_CASE("config keys: the table is complete and consistent", "[apps]") {
  std::set<std::string_view> names;
  const Config config;
  for (const Key& key : config_keys()) {
    INFO(key.name);
    CHECK(names.insert(key.name).second);
    CHECK(!key.doc.empty());
    CHECK(key.doc.size() < 80);
    Config copy;
    CHECK_NOTHROW(set_key(copy, key, get_key(config, key)));  // every default is a legal value
  }
}

TEST_CASE("config keys: values of every type are stored", "[apps]") {
  Config config;
  const auto set = [&](const char* name, const Json& value) { set_key(config, find_key(name), value); };
  set("model.num_layers", 3);
  set("model.lags", {1, 5});
  set("model.pre_norm", true);
  set("train.learning_rate", 1);  // an integer is a number
  set("train.grad_clip", nullptr);
  set("train.max_steps", 7);
  set("data.path", "here");
  set("seed", 18446744073709551615u);
  CHECK(config.model.num_layers == 3);
  CHECK(config.model.lags == std::vector<std::int64_t>{1, 5});
  CHECK(config.model.pre_norm);
  CHECK(config.train.learning_rate == 1.0);
  CHECK(!config.train.grad_clip.has_value());
  CHECK(config.train.max_steps == 7);
  CHECK(config.data.path == "here");
  CHECK(config.seed == 18446744073709551615u);
}

TEST_CASE("config keys: a wrong value is an error that names the key and what it wants", "[apps]") {
  CHECK(error_of("model.num_layers", "abc") == "model.num_layers: expected an integer, got \"abc\"");
  CHECK(error_of("model.num_layers", 2.5) == "model.num_layers: expected an integer, got 2.5");
  CHECK(error_of("model.num_layers", nullptr) == "model.num_layers: expected an integer, got null");
  CHECK(error_of("model.num_layers", true) == "model.num_layers: expected an integer, got true");
  CHECK(error_of("model.num_layers", {6}) == "model.num_layers: expected an integer, got [6]");
  CHECK(error_of("model.lags", 1) == "model.lags: expected a list of integers, got 1");
  CHECK(error_of("model.lags", {1, "2"}) == "model.lags: expected a list of integers, got [1,\"2\"]");
  CHECK(error_of("model.pre_norm", 1) == "model.pre_norm: expected true or false, got 1");
  CHECK(error_of("train.max_steps", "x") == "train.max_steps: expected an integer or null, got \"x\"");
  CHECK(error_of("train.learning_rate", "nan") ==
        "train.learning_rate: expected a number, got \"nan\" (not finite)");
  CHECK(contains(error_of("data.path", 5), "data.path: expected a string or null, got 5"));
  CHECK(error_of("data.path", "") == "data.path: must not be empty");
  CHECK(error_of("train.batch_size", 0) == "train.batch_size: must be from 1 to 1048576, got 0");
  CHECK(error_of("model.lags", {1, 0}) == "model.lags: must be from 1 to 1000000000, got 0");
  CHECK(error_of("train.dropout_rate", 1) == "train.dropout_rate: must be from 0 to less than 1, got 1");
  CHECK(error_of("train.grad_clip", 0) == "train.grad_clip: must be more than 0, got 0");
  CHECK(error_of("train.learning_rate", -0.5) == "train.learning_rate: must be at least 0, got -0.5");
  CHECK(error_of("seed", -1) == "seed: must be from 0 to 18446744073709551615, got -1");
  CHECK(error_of("model.init", "gpt3") == "model.init: must be torch or gpt2, got gpt3");
}

TEST_CASE("config keys: the nearest key is named", "[apps]") {
  const auto nearest_to = [](const std::string& name) -> std::string {
    try {
      find_key(name);
    } catch (const Error& error) {
      const std::string message = error.what();
      return message.substr(message.rfind(' ') + 1);
    }
    return "no error";
  };
  CHECK(nearest_to("train.batchsize") == "train.batch_size");
  CHECK(nearest_to("batch_size") == "train.batch_size");
  CHECK(nearest_to("model.batch_size") == "train.batch_size");
  for (const char* name : {"lr", "train.lr", "learning_rat", "model.learning_rate", "learning"})
    CHECK(nearest_to(name) == "train.learning_rate");
  CHECK(nearest_to("modle") == "model");
  CHECK(nearest_to("model.d_modle") == "model.d_model");
  CHECK(nearest_to("sed") == "seed");
  CHECK(nearest_to("train.epochs") == "train.num_epochs");
  CHECK(nearest_to("epochs") == "train.num_epochs");
  CHECK(nearest_to("layers") == "model.num_layers");
  CHECK(nearest_to("dropout") == "train.dropout_rate");
  CHECK(nearest_to("train.drop") == "train.dropout_rate");
  CHECK(nearest_to("context") == "data.max_context_len");
  CHECK(nearest_to("batchsize") == "train.batch_size");
  CHECK(nearest_to("sead") == "seed");
  // A name that nothing is like is not taken for another.
  for (const char* name : {"model.nope", "model.depth", "x", "optimizer", "gpu", "train.momentum"})
    CHECK_THROWS_WITH(find_key(name), "unknown key '" + std::string(name) + "'; see wedge train --help");
}

TEST_CASE("config: JSON there and back", "[apps]") {
  Config config;
  config.model.lags = {3, 4};
  config.train.grad_clip.reset();
  config.data.path = "a/b";
  config.seed = 18446744073709551615u;
  Config copy;
  update_from_json(copy, Json::parse(to_json(config).dump()), "test");
  CHECK(to_json(copy) == to_json(config));
  CHECK(copy.model.lags == config.model.lags);
  CHECK(copy.seed == config.seed);

  const Json portable = to_json(config, ConfigPart::checkpoint);
  CHECK(portable["train"].contains("batch_size"));
  CHECK(!portable["train"].contains("threads"));
  CHECK(!portable["train"].contains("device"));
  CHECK(!portable.contains("experiment"));
  CHECK_THROWS_WITH(update_from_json(copy, Json{{"train", 5}}, "file.json"),
                    "file.json: train: expected a group of keys, {...}, got 5");
  CHECK_THROWS_WITH(update_from_json(copy, Json{{"model", {{"depth", 3}}}}, "file.json"),
                    Catch::Matchers::StartsWith("file.json: unknown key 'model.depth'"));
}

TEST_CASE("config keys: group and leaf", "[apps]") {
  CHECK(find_key("train.batch_size").group() == "train");
  CHECK(find_key("train.batch_size").leaf() == "batch_size");
  CHECK(find_key("seed").group().empty());
  CHECK(find_key("seed").leaf() == "seed");
}

TEST_CASE("config keys: values in JSON, and what differs between several", "[apps]") {
  Config config;
  config.seed = 7;
  const Json json = to_json(config);
  for (const Key& key : config_keys()) CHECK(get_key(json, key) == get_key(config, key));
  for (const Json& other : {Json(), Json("text"), Json::object(), Json{{"train", 5}}})
    CHECK(get_key(other, find_key("train.batch_size")).is_null());

  Config changed = config;
  changed.model.tensor_lifting_strategy = "grassmann";  // which the table has a column for
  changed.train.threads = 3;                            // decides nothing
  changed.experiment.name = "other";
  changed.train.batch_size = 5;
  changed.seed = 8;
  CHECK(differing_keys({json, to_json(changed)}) ==
        std::vector<const Key*>{&find_key("train.batch_size"), &find_key("seed")});
  CHECK(differing_keys({json, json}).empty());
  CHECK(differing_keys({}).empty());
}
