#include "apps/checkpoint_data.h"

#include <algorithm>

#include "apps/compose.h"
#include "apps/corpus_source.h"
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

// What may be changed of a checkpoint's configuration: where data comes from and how it is run.
bool may_override(const std::string& name) {
  return name == "data" || name.starts_with("data.") || name == "train.batch_size" ||
         name == "train.threads" || name == "train.device" || name == "train.amp";
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

CheckpointData load_checkpoint_data(std::string_view command, const std::string& path,
                                    const std::string& split, const std::vector<std::string>& words) {
  const data::Split wanted = parse_split(split);
  Checkpoint checkpoint = read_checkpoint(path);
  Config config = compose_over(base_of(checkpoint.config, words), words);
  for (const std::string& word : words) {
    const std::string name = word.substr(0, word.find('='));
    WEDGE_CHECK(may_override(name) && (name != "data.vocab_file" || checkpoint.vocabulary.empty()),
                "{}: {} comes with the checkpoint and cannot be changed", command, name);
  }
  validate(config);
  WEDGE_CHECK(config.data.max_context_len <= checkpoint.config.data.max_context_len,
              "data.max_context_len: must be at most {}, the checkpoint's, got {}",
              checkpoint.config.data.max_context_len, config.data.max_context_len);

  data::Corpus corpus =
      load_corpus(config, {wanted}, checkpoint.vocabulary.empty() ? nullptr : &checkpoint.vocabulary);
  WEDGE_CHECK(corpus.vocab_size == checkpoint.vocab_size, "{}: its vocabulary has {} entries, the data's {}",
              checkpoint.path.string(), checkpoint.vocab_size, corpus.vocab_size);
  data::Blocks blocks(corpus.tokens(wanted), config.data.max_context_len, data::name_of(wanted));
  use_threads(config.train.threads);
  auto model = load_model(checkpoint, resolve_device(config.train.device));
  return {std::move(checkpoint), std::move(config), std::move(model), std::move(blocks)};
}

}  // namespace wedge::app
