#include "apps/corpus_source.h"

namespace wedge::app {

data::Corpus load_corpus(const Config& config, const std::vector<data::Split>& wanted,
                         const std::vector<std::string>* vocabulary) {
  const DataConfig& d = config.data;
  return data::load_corpus({.source = d.source,
                            .path = d.path.value_or(""),
                            .train_file = d.train_file.value_or(""),
                            .validation_file = d.validation_file.value_or(""),
                            .test_file = d.test_file.value_or(""),
                            .vocab_file = d.vocab_file.value_or(""),
                            .max_samples_train = d.max_samples_train,
                            .max_samples_val = d.max_samples_val},
                           wanted, vocabulary);
}

}  // namespace wedge::app
