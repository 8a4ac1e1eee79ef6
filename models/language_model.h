// What the trainer needs of a language model.
#pragma once

#include <memory>
#include <vector>

#include "autograd/ops.h"
#include "models/mixers.h"
#include "models/model_config.h"
#include "models/module.h"

namespace wedge {

// A sequence that is read token by token: how many there were, and what each layer remembers of them.
struct Decoding {
  std::int64_t position = 0;
  std::vector<std::unique_ptr<Mixer::Memory>> layers;
};

// A decoder-only language model (token ids to next-token distributions).
class LanguageModel : public Module {
 public:
  // ids: int32 [B, L], L <= max_context_len. Returns logits [B, L, V].
  virtual Variable logits(const Tensor& ids) = 0;
  // Mean cross-entropy over the B·L targets (int32 [B, L]), computed without ever holding all logits.
  virtual Variable loss(const Tensor& ids, const Tensor& targets) = 0;

  // Incremental decoding: the state of B sequences of which nothing was read.
  virtual Decoding start_decoding(std::int64_t B) const = 0;
  // Reads on: ids int32 [B, n] follow what was read; n = 1 unless that is nothing. Returns the logits of the
  // last position, [B, V]: those of logits() over the whole sequences but for rounding. In evaluation mode;
  // no gradients flow. Throws wedge::Error past max_context_len positions, where no position embedding is
  // left.
  virtual Variable extend(const Tensor& ids, Decoding& decoding) const = 0;

  // The trace of each layer's mixer over ids, int32 [B, L], in evaluation mode.
  virtual std::vector<Mixer::Trace> trace(const Tensor& ids) const = 0;

  // Dropout is on in training mode (the default) and off in evaluation mode.
  virtual void set_training(bool on) = 0;
  // Names this forward pass's dropout masks: they are a function of (seed, step, micro_step, place, element).
  virtual void set_dropout_counter(std::uint64_t step, std::uint64_t micro_step) = 0;
  // The same from a tensor that is read when the masks are made: int64 [3] seed, step, micro_step, where the
  // model is. Changing it between a forward and its backward pass is an error.
  virtual void use_dropout_counter(const Tensor& counter) = 0;

  virtual const ModelConfig& config() const = 0;
  // Where the parameters are, and where ids and targets must be.
  virtual Device device() const = 0;
};

// Builds the model that config.tensor_lifting_strategy names on `device`, with weights drawn from `seed`, the
// same ones on every device. Throws wedge::Error on a configuration that validate() refuses or a strategy
// that is not in the mixer table.
std::unique_ptr<LanguageModel> make_language_model(const ModelConfig& config, std::uint64_t seed,
                                                   DType dtype = DType::f32, Device device = Device::cpu);

}  // namespace wedge
