#include "models/model_config.h"

#include "models/mixers.h"

namespace wedge {

void ModelConfig::validate() const {
  const auto at_least_one = [](const char* key, std::int64_t value) {
    WEDGE_CHECK(value >= 1, "{}: expected at least 1, got {}", key, value);
  };
  const MixerEntry& mixer = find_mixer(tensor_lifting_strategy);
  at_least_one("model.num_layers", num_layers);
  at_least_one("model.d_model", d_model);
  at_least_one("model.expansion_ratio", expansion_ratio);
  at_least_one("data.max_context_len", max_context_len);
  at_least_one("vocab_size", vocab_size);
  WEDGE_CHECK(init == "torch" || init == "gpt2", "model.init: expected torch or gpt2, got '{}'", init);
  WEDGE_CHECK(dropout_rate >= 0 && dropout_rate < 1,
              "train.dropout_rate: expected a number in [0, 1), got {}", dropout_rate);
  if (mixer.validate != nullptr) mixer.validate(*this);
}

}  // namespace wedge
