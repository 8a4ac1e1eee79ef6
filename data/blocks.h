// A stream of tokens cut into the pieces that a model is trained and judged on.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace wedge::data {

// floor(n / (L+1)) consecutive blocks of L+1 tokens; the tail of the stream is dropped. A block's first L
// tokens are the input, its last L the target: target[i] follows input[i].
class Blocks {
 public:
  // L = context_len >= 1. Throws wedge::Error naming `split` when the tokens make no whole block.
  Blocks(std::vector<std::int32_t> tokens, std::int64_t context_len, std::string_view split);

  std::int64_t count() const { return count_; }
  std::int64_t context_len() const { return context_len_; }
  // The whole stream: block b begins at token b (L + 1).
  std::span<const std::int32_t> tokens() const { return tokens_; }
  // L tokens each, 0 <= block < count(); they live as long as this object.
  std::span<const std::int32_t> input(std::int64_t block) const { return piece(block, 0); }
  std::span<const std::int32_t> target(std::int64_t block) const { return piece(block, 1); }

 private:
  std::span<const std::int32_t> piece(std::int64_t block, std::int64_t shift) const {
    return {tokens_.data() + block * (context_len_ + 1) + shift, static_cast<std::size_t>(context_len_)};
  }

  std::vector<std::int32_t> tokens_;
  std::int64_t context_len_;
  std::int64_t count_;
};

// The mean of per_token over the positions that are targets of the blocks of a stream of per_token.size()
// tokens: all but the first of each block and the tail. Throws wedge::Error when there is no whole block.
double mean_over_targets(std::span<const double> per_token, std::int64_t context_len);

}  // namespace wedge::data
