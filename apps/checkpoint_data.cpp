#include "apps/checkpoint_data.h"

#include <algorithm>

#include "apps/compose.h"
#include "apps/device.h"
#include "apps/threads.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

data::Split parse_split(const std::string& name) {
  for (const data::Split split : {data::Split::train, data::Split::validation, data::Split::test})
    if (name == data::name_of(split)) return split;
  throw Error(fmt::format("data.split: must be train, validation or test, got {}", name));
}

// The checkpoint's configuration; without its files where another source is asked for, whose files they are
// not.
Config base_of(Config config, const std::vector<std::string>& overrides) {
  const bool other_source = std::any_of(overrides.begin(), overrides.end(),
                                        [](const std::string& word) { return word.starts_with("data="); });
  if (!other_source) return config;
  for (auto* file : {&config.data.path, &config.data.train_file, &config.data.validation_file,
                     &config.data.test_file, &config.data.vocab_file})
    file->reset();
  return config;
}

}  // namespace

CheckpointData load_checkpoint_data(const Words& words) {
  const data::Split split = parse_split(words.text("data.split").value_or("validation"));
  Checkpoint checkpoint = read_checkpoint(words.required("checkpoint", "FILE_OR_RUN_DIR"));
  Config config = compose_over(base_of(checkpoint.config, words.keys()), words.keys());
  const bool has_vocabulary = !checkpoint.vocabulary.empty();
  for (const std::string& word : words.keys())
    WEDGE_CHECK(!has_vocabulary || !word.starts_with("data.vocab_file="),
                "{}: data.vocab_file comes with the checkpoint and cannot be changed", words.command());
  validate(config);
  WEDGE_CHECK(config.data.max_context_len <= checkpoint.config.data.max_context_len,
              "data.max_context_len: must be at most {}, the checkpoint's, got {}",
              checkpoint.config.data.max_context_len, config.data.max_context_len);

  data::Corpus corpus =
      data::load_corpus(config.data, {split}, has_vocabulary ? &checkpoint.vocabulary : nullptr);
  WEDGE_CHECK(corpus.vocab_size == checkpoint.vocab_size, "{}: its vocabulary has {} entries, the data's {}",
              checkpoint.file.path().string(), checkpoint.vocab_size, corpus.vocab_size);
  data::Blocks blocks(corpus.tokens(split), config.data.max_context_len, data::name_of(split));
  use_threads(config.train.threads);
  auto model = load_model(checkpoint, resolve_device(config.train.device));
  return {std::move(checkpoint), std::move(config), std::move(model), split, std::move(blocks)};
}

}  // namespace wedge::app
