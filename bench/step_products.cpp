#include "bench/step_products.h"

#include <algorithm>

#include "kernels/linear_cross_entropy.h"

namespace wedge::bench {

std::vector<LinearProduct> mixer_products(const ModelConfig& c, std::int64_t tokens) {
  const std::int64_t d = c.d_model, P = c.d_low * (c.d_low - 1) / 2;
  if (c.tensor_lifting_strategy == "attention")
    return {{"qkv", tokens, 3 * d, d, 1}, {"output", tokens, d, d, 1}};
  // The gate's are of h and of g.
  return {{"reduce", tokens, c.d_low, d, 1}, {"expand", tokens, d, P, 1}, {"gate", tokens, d, d, 2}};
}

std::vector<LinearProduct> step_products(const ModelConfig& c, std::int64_t tokens, Device device) {
  const std::int64_t d = c.d_model, hidden = c.expansion_ratio * d;
  std::vector<LinearProduct> all = mixer_products(c, tokens);
  all.insert(all.end(), {{"up", tokens, hidden, d, 1}, {"down", tokens, d, hidden, 1}});
  for (LinearProduct& product : all) product.count *= c.num_layers;

  const bool on_cpu = device == Device::cpu;
  const std::int64_t rows = on_cpu ? cpu::kLogitRows : tokens,
                     classes = on_cpu ? c.vocab_size : padded_classes(c.vocab_size);
  if (const std::int64_t whole = tokens / rows; whole > 0) all.push_back({"head", rows, classes, d, whole});
  if (const std::int64_t rest = tokens % rows; rest > 0) all.push_back({"head", rest, classes, d, 1});
  return all;
}

}  // namespace wedge::bench
