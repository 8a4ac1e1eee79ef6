#include "data/blocks.h"

#include <utility>

#include "tensor/check.h"

namespace wedge::data {
namespace {

std::int64_t whole_blocks(std::size_t tokens, std::int64_t context_len, std::string_view split) {
  WEDGE_CHECK(context_len >= 1, "blocks: the context length must be >= 1, got {}", context_len);
  const auto count = static_cast<std::int64_t>(tokens) / (context_len + 1);
  WEDGE_CHECK(
      count > 0,
      "no whole block: {} has {} of the {} tokens that a block takes (context length {} and one more)", split,
      tokens, context_len + 1, context_len);
  return count;
}

}  // namespace

Blocks::Blocks(std::vector<std::int32_t> tokens, std::int64_t context_len, std::string_view split)
    : tokens_(std::move(tokens)),
      context_len_(context_len),
      count_(whole_blocks(tokens_.size(), context_len, split)) {}

double mean_over_targets(std::span<const double> per_token, std::int64_t context_len) {
  const std::int64_t count = whole_blocks(per_token.size(), context_len, "the stream");
  double sum = 0;
  for (std::int64_t block = 0; block < count; ++block) {
    const auto first = static_cast<std::size_t>(block * (context_len + 1) + 1);
    for (const double value : per_token.subspan(first, static_cast<std::size_t>(context_len))) sum += value;
  }
  return sum / static_cast<double>(count * context_len);
}

}  // namespace wedge::data
