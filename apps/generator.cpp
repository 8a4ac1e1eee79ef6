#include "apps/generator.h"

#include <algorithm>

#include "tensor/check.h"

namespace wedge::app {

Generator::Generator(LanguageModel& model, const std::vector<std::int32_t>& prompt)
    : model_(model), window_(prompt) {
  WEDGE_CHECK(!prompt.empty(), "generate: expected a prompt of at least one token");
  model_.set_training(false);
  read_window();
}

void Generator::push(std::int32_t token) {
  window_.push_back(token);
  if (std::ssize(window_) > model_.config().max_context_len)
    read_window();
  else
    read({token});
}

void Generator::read_window() {
  const std::int64_t capacity = model_.config().max_context_len;
  if (std::ssize(window_) > capacity)
    window_.erase(window_.begin(), window_.end() - std::max<std::int64_t>(1, capacity / 2));
  decoding_ = model_.start_decoding(1);
  read(window_);
}

void Generator::read(const std::vector<std::int32_t>& ids) {
  const Tensor tensor = Tensor::from(ids, {1, std::ssize(ids)}).to(model_.device());
  const Tensor logits = model_.extend(tensor, decoding_).value().to(Device::cpu).contiguous();
  logits_.assign(logits.data<float>(), logits.data<float>() + logits.numel());
}

}  // namespace wedge::app
