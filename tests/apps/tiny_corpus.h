// A corpus small enough for a test to train on in a moment.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tensor/rng.h"
#include "tensor/safetensors.h"

namespace wedge::test {

inline constexpr std::int64_t kTinyVocab = 12;

// Tokens in which each mostly determines the next.
inline std::vector<std::int32_t> tiny_tokens(std::int64_t n, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<std::int32_t> tokens;
  std::int64_t token = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    token = rng.uniform() < 0.8
                ? (token * 5 + 3) % kTinyVocab
                : static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(kTinyVocab)));
    tokens.push_back(static_cast<std::int32_t>(token));
  }
  return tokens;
}

// A token file with so many tokens in each split.
inline void write_tiny_corpus(const std::filesystem::path& path, std::int64_t train = 500,
                              std::int64_t validation = 100) {
  const auto vector = [](std::int64_t n, std::uint64_t seed) {
    return Tensor::from(tiny_tokens(n, seed), {n});
  };
  write_safetensors(
      path, {{"train", vector(train, 1)}, {"validation", vector(validation, 2)}, {"test", vector(100, 3)}},
      {{"vocab_size", std::to_string(kTinyVocab)}});
}

// The words of a run on the corpus at `path`, with a model small enough for it; `more` comes after them.
inline std::vector<std::string> tiny_run(const std::filesystem::path& path,
                                         const std::vector<std::string>& more = {}) {
  std::vector<std::string> words = {
      "data=tokens",        "data.path=" + path.string(), "data.max_context_len=8",  "model.num_layers=2",
      "model.d_model=16",   "model.num_heads=2",          "model.d_low=4",           "model.lags=[1,2]",
      "train.batch_size=4", "train.num_epochs=2",         "train.learning_rate=0.01"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// The same as arguments of the command, in whose folder the corpus is tokens.safetensors.
inline std::vector<std::string> tiny_train(const std::vector<std::string>& more = {}) {
  std::vector<std::string> words = tiny_run("tokens.safetensors", more);
  words.insert(words.begin(), "train");
  return words;
}

}  // namespace wedge::test
