#include "models/language_model.h"

namespace wedge {
namespace {

const ModelConfig& validated(const ModelConfig& config) {
  config.validate();
  return config;
}

}  // namespace

// One layer: a mixer and a feed-forward network, in one of two orders.
//   post-norm:  h = norm1(h + dropout(mixer(h)));    h = norm2(h + dropout(ffn(h)))
//               (a mixer that carries its residual: h = dropout(norm1(mixer(h))))
//   pre-norm:   h = h + dropout(mixer(norm1(h)));    h = h + dropout(ffn(norm2(h)))
class LanguageModel::Block : public Module {
 public:
  Block(const ModelConfig& config, std::int64_t layer, Init& init)
      : pre_norm_(config.pre_norm),
        mixer_(find_mixer(config.tensor_lifting_strategy).make(config, layer, init)),
        ffn_(config.d_model, config.expansion_ratio, init),
        norm1_(config.d_model, init),
        norm2_(config.d_model, init) {
    add_child("attention_norm", norm1_);
    add_child("attention", *mixer_);
    add_child("ffn_norm", norm2_);
    add_child("ffn", ffn_);
  }

  // `mix`, if there is one, is called with the mixer and its input in place of the mixer itself.
  using Mix = std::function<Variable(const Mixer& mixer, const Variable& x)>;
  Variable operator()(Variable h, const Dropout& drop1, const Dropout& drop2, const Mix& mix) const {
    const auto mixer = [&](const Variable& x) { return mix ? mix(*mixer_, x) : (*mixer_)(x); };
    if (pre_norm_) {
      h = residual_dropout(h, mixer(norm1_(h)), drop1);
      return residual_dropout(h, ffn_(norm2_(h)), drop2);
    }
    if (!mixer_->carries_residual())
      h = norm1_(h, mixer(h), drop1);
    else
      h = mix ? norm1_(mixer(h), drop1) : mixer_->normalized(h, norm1_, drop1);
    return norm2_(h, ffn_(h), drop2);
  }

  std::unique_ptr<Mixer::Memory> make_memory(std::int64_t batch, std::int64_t capacity) const {
    return mixer_->make_memory(batch, capacity);
  }

 private:
  bool pre_norm_;
  std::unique_ptr<Mixer> mixer_;
  FeedForward ffn_;
  LayerNorm norm1_, norm2_;
};

LanguageModel::LanguageModel(const ModelConfig& config, std::uint64_t seed, DType dtype, Device device)
    : LanguageModel(validated(config), seed, Init(config, seed, dtype, device)) {}

LanguageModel::LanguageModel(const ModelConfig& config, std::uint64_t seed, Init init)
    : config_(config),
      seed_(seed),
      token_embedding_(config.vocab_size, config.d_model, init),
      position_embedding_(config.max_context_len, config.d_model, init),
      output_norm_(config.d_model, init) {
  add_child("token_embedding", token_embedding_);
  add_child("position_embedding", position_embedding_);
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    blocks_.push_back(std::make_unique<Block>(config, layer, init));
    add_child(fmt::format("transformer_blocks.{}", layer), *blocks_.back());
  }
  add_child("output_norm", output_norm_);
  head_ = config.weight_tying
              ? token_embedding_.weight
              : add_parameter("lm_head.weight", init.linear_weight(config.vocab_size, config.d_model));
  set_dropout_counter(0, 0);
}

LanguageModel::~LanguageModel() = default;

Variable LanguageModel::hidden(const Tensor& ids, std::int64_t begin, const Mix& mix) const {
  WEDGE_CHECK(ids.rank() == 2 && ids.size(1) >= 1 && begin + ids.size(1) <= config_.max_context_len,
              "language model: expected ids [B, L] with 1 <= L <= {}, got {}",
              config_.max_context_len - begin, to_string(ids.shape()));
  Variable h =
      token_position_embedding(token_embedding_.weight, position_embedding_.weight, ids, begin, drop(0));
  for (std::size_t k = 0; k < blocks_.size(); ++k) {
    const auto site = static_cast<std::uint32_t>(1 + 2 * k);
    Block::Mix mix_here;
    if (mix) mix_here = [&](const Mixer& mixer, const Variable& x) { return mix(k, mixer, x); };
    h = (*blocks_[k])(h, drop(site), drop(site + 1), mix_here);
  }
  return output_norm_(h);
}

Variable LanguageModel::logits(const Tensor& ids) const {
  return linear(hidden(ids), head_);
}

Variable LanguageModel::loss(const Tensor& ids, const Tensor& targets) const {
  return linear_cross_entropy(hidden(ids), head_, targets);
}

Decoding LanguageModel::start_decoding(std::int64_t B) const {
  Decoding decoding;
  for (const auto& block : blocks_) decoding.layers.push_back(block->make_memory(B, config_.max_context_len));
  return decoding;
}

Variable LanguageModel::extend(const Tensor& ids, Decoding& decoding) const {
  WEDGE_CHECK(!training_, "language model: decoding is for evaluation mode");
  WEDGE_CHECK(decoding.layers.size() == blocks_.size(),
              "language model: expected a decoding that start_decoding() of this model gave, got one of {} "
              "layers",
              decoding.layers.size());
  WEDGE_CHECK(decoding.position < config_.max_context_len, "language model: all {} positions are used up",
              config_.max_context_len);
  WEDGE_CHECK(ids.rank() == 2 && (ids.size(1) == 1 || decoding.position == 0),
              "language model: expected ids [B, 1], or [B, n] at the beginning, got {} at position {}",
              to_string(ids.shape()), decoding.position);
  const NoGradGuard no_grad;
  const Variable h =
      hidden(ids, decoding.position, [&](std::size_t layer, const Mixer& mixer, const Variable& x) {
        return mixer.extend(x, *decoding.layers[layer]);
      });
  decoding.position += ids.size(1);
  return linear(reshape(slice(h, 1, h.size(1) - 1, h.size(1)), {h.size(0), h.size(2)}), head_);
}

std::vector<Mixer::Trace> LanguageModel::trace(const Tensor& ids) const {
  WEDGE_CHECK(!training_, "language model: traces are for evaluation mode");
  const NoGradGuard no_grad;
  std::vector<Mixer::Trace> traces;
  hidden(ids, 0, [&](std::size_t, const Mixer& mixer, const Variable& x) {
    traces.push_back(mixer.trace(x));
    return mixer(x);
  });
  return traces;
}

void LanguageModel::set_dropout_counter(std::uint64_t step, std::uint64_t micro_step) {
  // A new tensor: graphs that are still alive keep the counter of their own forward pass.
  counter_ = Tensor::from(
                 std::vector<std::int64_t>{static_cast<std::int64_t>(seed_), static_cast<std::int64_t>(step),
                                           static_cast<std::int64_t>(micro_step)},
                 {3})
                 .to(device());
}

Dropout LanguageModel::drop(std::uint32_t site) const {
  return training_ ? Dropout{config_.dropout_rate, site, counter_} : Dropout{};
}

}  // namespace wedge
