// What defines a model: the group `model` of a configuration, and the two sizes that come with the data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wedge {

struct ModelConfig {
  std::string tensor_lifting_strategy = "attention";  // the mixer's name: models/mixers.h
  std::int64_t num_layers = 6;
  std::int64_t d_model = 256;
  std::int64_t num_heads = 4;        // attention
  std::int64_t expansion_ratio = 4;  // feed-forward width / d_model
  std::int64_t d_low = 32;           // Grassmann: reduced width r
  std::vector<std::int64_t> lags = {1, 2, 4, 8, 12, 16};
  bool pre_norm = false;
  bool layerwise_lags = false;  // layer k uses lags[k] alone
  bool weight_tying = true;
  std::string init = "torch";  // torch | gpt2
  double dropout_rate = 0.1;
  std::int64_t vocab_size = 0;
  std::int64_t max_context_len = 128;

  // The lags of one layer's mixer.
  std::vector<std::int64_t> lags_of(std::int64_t layer) const {
    return layerwise_lags ? std::vector{lags[layer]} : lags;
  }
  // Throws wedge::Error, naming the key, when a value is out of range or two do not fit each other.
  void validate() const;
};

}  // namespace wedge
