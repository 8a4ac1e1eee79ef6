// Text from a model, one token after another.
#pragma once

#include <cstdint>
#include <vector>

#include "models/language_model.h"

namespace wedge::app {

// Continues a sequence. A model has positions for max_context_len = L tokens; when they are used up the last
// L / 2 (at least one) are read again as a sequence of their own, as training's blocks begin anywhere: every
// token is drawn from logits that the model gives to a text of at most L tokens, and the mean cost of a token
// stays the same. Of a prompt of more than L tokens the last L / 2 are read.
class Generator {
 public:
  // `model` must outlive this object, and is put into evaluation mode. Throws wedge::Error for an empty
  // prompt.
  Generator(LanguageModel& model, const std::vector<std::int32_t>& prompt);

  // Logits of the next token, [V], on the CPU; valid until push().
  const std::vector<float>& logits() const { return logits_; }
  // The token that comes next.
  void push(std::int32_t token);

  // What the model has read as one sequence.
  const std::vector<std::int32_t>& window() const { return window_; }

 private:
  void read_window();
  void read(const std::vector<std::int32_t>& ids);

  LanguageModel& model_;
  Decoding decoding_;
  std::vector<std::int32_t> window_;
  std::vector<float> logits_;
};

}  // namespace wedge::app
