// The decoder-only language model that both mixers share.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "autograd/ops.h"
#include "models/layers.h"
#include "models/mixers.h"
#include "models/model_config.h"
#include "models/module.h"

namespace wedge {

// A sequence that is read token by token: how many there were, and what each layer remembers of them.
struct Decoding {
  std::int64_t position = 0;
  std::vector<std::unique_ptr<Mixer::Memory>> layers;
};

// Token ids to next-token distributions; the mixer is the one that config.tensor_lifting_strategy names:
//   h = dropout(token_embedding[x] + position_embedding[0..L));  h = block_k(h)
//   logits = output_norm(h) · headᵀ
class LanguageModel : public Module {
 public:
  // Weights are drawn from `seed`, the same ones on every device. Throws wedge::Error on a configuration that
  // validate() refuses or a strategy that is not in the mixer table.
  LanguageModel(const ModelConfig& config, std::uint64_t seed, DType dtype = DType::f32,
                Device device = Device::cpu);
  ~LanguageModel() override;

  // ids: int32 [B, L], L <= max_context_len. Returns logits [B, L, V].
  Variable logits(const Tensor& ids) const;
  // Mean cross-entropy over the B·L targets (int32 [B, L]), computed without ever holding all logits.
  Variable loss(const Tensor& ids, const Tensor& targets) const;

  // Incremental decoding: the state of B sequences of which nothing was read.
  Decoding start_decoding(std::int64_t B) const;
  // Reads on: ids int32 [B, n] follow what was read; n = 1 unless that is nothing. Returns the logits of the
  // last position, [B, V]: those of logits() over the whole sequences but for rounding. In evaluation mode;
  // no gradients flow. Throws wedge::Error past max_context_len positions, where no position embedding is
  // left.
  Variable extend(const Tensor& ids, Decoding& decoding) const;

  // The trace of each layer's mixer over ids, int32 [B, L], in evaluation mode.
  std::vector<Mixer::Trace> trace(const Tensor& ids) const;

  // Dropout is on in training mode (the default) and off in evaluation mode.
  void set_training(bool on) { training_ = on; }
  // Names this forward pass's dropout masks: they are a function of (seed, step, micro_step, place, element).
  void set_dropout_counter(std::uint64_t step, std::uint64_t micro_step);
  // The same from a tensor that is read when the masks are made: int64 [3] seed, step, micro_step, where the
  // model is. Changing it between a forward and its backward pass is an error.
  void use_dropout_counter(const Tensor& counter) { counter_ = counter; }

  const ModelConfig& config() const { return config_; }
  // Where the parameters are, and where ids and targets must be.
  Device device() const { return token_embedding_.weight.value().device(); }

 private:
  class Block;
  using Mix = std::function<Variable(std::size_t layer, const Mixer& mixer, const Variable& x)>;

  LanguageModel(const ModelConfig& config, std::uint64_t seed, Init init);
  // ids are those of positions from `begin` on; `mix`, if there is one, stands for the mixers.
  Variable hidden(const Tensor& ids, std::int64_t begin = 0, const Mix& mix = {}) const;
  Dropout drop(std::uint32_t site) const;

  ModelConfig config_;
  std::uint64_t seed_;
  Embedding token_embedding_, position_embedding_;
  LayerNorm output_norm_;
  std::vector<std::unique_ptr<Block>> blocks_;
  Variable head_;
  bool training_ = true;
  Tensor counter_;
};

}  // namespace wedge
