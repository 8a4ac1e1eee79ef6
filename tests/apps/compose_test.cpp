#include "apps/compose.h"

#include "apps/conf/presets.h"
#include "tensor/check.h"
#include "tests/support/catch.h"

using namespace wedge;
using namespace wedge::app;
using Catch::Matchers::StartsWith;

namespace {

Config compose_one(const std::vector<std::string>& arguments) {
  const auto configs = compose(arguments, false);
  REQUIRE(configs.size() == 1);
  return configs.front();
}

}  // namespace

TEST_CASE("compose: values are JSON, a bare word is a string", "[apps]") {
  CHECK(parse_value("3") == Json(3));
  CHECK(parse_value("1e-3") == Json(1e-3));
  CHECK(parse_value("true") == Json(true));
  CHECK(parse_value("null").is_null());
  CHECK(parse_value("[1, 2]") == Json({1, 2}));
  CHECK(parse_value("\"a,b\"") == Json("a,b"));
  CHECK(parse_value("gpt2") == Json("gpt2"));
  CHECK(parse_value("a/b.raw") == Json("a/b.raw"));
  CHECK(parse_value("nan") == Json("nan"));
  CHECK(parse_value("1e999") == Json("1e999"));
  CHECK(parse_value("[1,2") == Json("[1,2"));
}

TEST_CASE("compose: commas separate outside brackets and quotes", "[apps]") {
  using Parts = std::vector<std::string>;
  CHECK(split_commas("a,b") == Parts{"a", "b"});
  CHECK(split_commas("[1,2],[3]") == Parts{"[1,2]", "[3]"});
  CHECK(split_commas("\"x,y\",z") == Parts{"\"x,y\"", "z"});
  CHECK(split_commas("\"x\\\",y\",z") == Parts{"\"x\\\",y\"", "z"});
  CHECK(split_commas("a,") == Parts{"a", ""});
  CHECK(split_commas("") == Parts{""});
}

TEST_CASE("compose: without arguments, the founding experiment", "[apps]") {
  const Config config = compose_one({});
  CHECK(config.model.tensor_lifting_strategy == "attention");
  CHECK(config.data.source == "parquet");
  CHECK(config.experiment.name == "paper_6l_128");
  CHECK(to_json(config) == to_json(Config{}));
}

TEST_CASE("compose: presets apply first, then keys from left to right", "[apps]") {
  const Config config = compose_one({"model.num_layers=12", "model.lags=[1,2,3,4,5,6,7,8,9,10,11,12]",
                                     "experiment=paper_12l_256", "train.batch_size=8", "train.batch_size=4",
                                     "model=grassmann", "data=text"});
  CHECK(config.model.tensor_lifting_strategy == "grassmann");
  CHECK(config.data.source == "text");
  CHECK(config.model.lags.back() == 12);      // the key wins over the preset that comes after it
  CHECK(config.train.batch_size == 4);        // the last one wins
  CHECK(config.data.max_context_len == 256);  // from the preset
  CHECK(compose_one({"experiment=quick", "experiment=paper_6l_128"}).model.d_model == 256);
}

TEST_CASE("compose: paper_12l_256 is the stabilised one", "[apps]") {
  const Config config = compose_one({"experiment=paper_12l_256"});
  CHECK(config.model.num_layers == 12);
  CHECK(config.model.lags == std::vector<std::int64_t>{1, 1, 2, 2, 4, 4, 8, 8, 12, 12, 16, 16});
  CHECK(config.model.layerwise_lags);
  CHECK(config.model.pre_norm);
  CHECK(config.model.init == "gpt2");
  CHECK(config.data.max_context_len == 256);
  CHECK(config.train.batch_size == 16);
  CHECK(config.train.num_epochs == 30);
  const Config strict = compose_one({"experiment=paper_12l_256", "model.pre_norm=false", "model.init=torch"});
  CHECK(!strict.model.pre_norm);
  CHECK(strict.model.init == "torch");
  CHECK(strict.model.num_layers == 12);
}

TEST_CASE("compose: the founding command, word for word", "[apps]") {
  const auto configs = compose({"model=attention,grassmann", "train.num_epochs=3", "train.batch_size=16",
                                "data.max_samples_train=800", "data.max_samples_val=200"},
                               true);
  REQUIRE(configs.size() == 2);
  CHECK(configs[0].model.tensor_lifting_strategy == "attention");
  CHECK(configs[1].model.tensor_lifting_strategy == "grassmann");
  for (const Config& config : configs) {
    CHECK(config.train.num_epochs == 3);
    CHECK(config.train.batch_size == 16);
    CHECK(config.data.max_samples_train == 800);
    CHECK(config.data.max_samples_val == 200);
  }
  CHECK_NOTHROW(compose_one({"train.num_workers=4", "train.pin_memory=true"}));
}

TEST_CASE("compose: the product, last word fastest", "[apps]") {
  const auto configs = compose({"model=attention,grassmann", "model.lags=[1,2],[4]", "seed=1,2"}, true);
  REQUIRE(configs.size() == 8);
  CHECK(configs[0].seed == 1);
  CHECK(configs[1].seed == 2);
  CHECK(configs[1].model.lags.size() == 2);
  CHECK(configs[2].model.lags == std::vector<std::int64_t>{4});
  CHECK(configs[3].model.tensor_lifting_strategy == "attention");
  CHECK(configs[4].model.tensor_lifting_strategy == "grassmann");
  CHECK(compose({"seed=1,2", "seed=3"}, true).size() == 1);
  CHECK(compose({}, true).size() == 1);
}

TEST_CASE("compose: what is wrong is said", "[apps]") {
  const auto fails = [](const std::vector<std::string>& arguments, bool multirun, const std::string& start) {
    INFO(start);
    CHECK_THROWS_WITH(compose(arguments, multirun), StartsWith(start));
  };
  fails({"seed=1,2"}, false, "seed=1,2: several values need -m");
  fails({"model.lags=1,2"}, false, "model.lags=1,2: several values need -m");
  fails({"seed=1,,2"}, true, "seed=1,,2: a value is missing");
  fails({"seed="}, false, "seed=: a value is missing");
  fails({"seed"}, false, "argument 'seed': expected group=preset or group.key=value");
  fails({"=3"}, false, "argument '=3'");
  fails({"model=lstm"}, false, "model=lstm: no such preset; there is attention");
  fails({"experiment=paper"}, false,
        "experiment=paper: no such preset; there is paper_6l_128, paper_12l_256, quick");
  fails({"data=wikitext"}, false, "data=wikitext: no such preset; there is wikitext2, text, tokens, builtin");
  fails({"train=fast"}, false, "unknown key 'train'");
  fails({"model.depth=3"}, false, "unknown key 'model.depth'; see wedge train --help");
  fails({"train.learning_rate=inf"}, false, "train.learning_rate: expected a number");
  fails({"train.device=cuda"}, false, "train.device=cuda");
  fails({"data.path=a,b"}, false,
        "data.path=a,b: several values need -m (multirun); as one value a list is "
        "written [1,2], a text with commas '\"a,b\"'");
  for (const char* key : {"data.path", "data.vocab_file", "train.init_from", "experiment.run_dir"}) {
    const std::string name = key;
    fails({name + "=~/x"}, false,
          name + ": expected a path, got ~/x, whose ~ the shell has not replaced; write $HOME/x");
    fails({name + "=a,~"}, true,
          name + ": expected a path, got ~, whose ~ the shell has not replaced; write $HOME");
  }
  CHECK_NOTHROW(compose({"experiment.run_dir=./~/x", "experiment.name=~/x"}, false));
  fails({"data=tokens"}, false, "data=tokens needs data.path");
  fails({"data=tokens", "data.path=x", "data.train_file=y"}, false,
        "data.train_file means nothing for data=tokens; expected null");
  fails({"data=builtin", "data.path=x"}, false, "data.path means nothing for data=builtin; expected null");
  fails({"data.path=\xff"}, false, "argument 'data.path=\xff' is not valid UTF-8");
  fails({"seed=1,2,3,4,5,6,7,8,9,10", "train.batch_size=1,2,3,4,5,6,7,8,9,10",
         "train.num_epochs=1,2,3,4,5,6,7,8,9,10", "train.warmup_steps=1,2,3,4,5,6,7,8,9,10",
         "train.accumulate=1,2"},
        true, "-m: more than 10000 runs");
  // The last configuration of a product is checked as the first is.
  fails({"model=attention,grassmann", "model.d_low=32,1"}, true, "model.d_low");
  fails({"model.d_model=256", "model.num_heads=4,7"}, true, "model");
}

TEST_CASE("compose: over a configuration that is there, only what is named changes", "[apps]") {
  Config base;
  base.model.num_layers = 3;
  base.data.source = "builtin";
  const Config config = compose_over(base, {"data=text", "data.max_samples_val=5"});
  CHECK(config.data.source == "text");
  CHECK(config.model.num_layers == 3);
  CHECK(config.data.max_samples_val == 5);
  CHECK(compose_over(base, {}).data.source == "builtin");
}
