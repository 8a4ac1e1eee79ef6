// Drawing a token from a model's logits.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "tensor/rng.h"

namespace wedge::app {

struct SamplerOptions {
  double temperature = 1;                  // >= 0; 0: the most likely token
  std::optional<std::int64_t> top_k = {};  // >= 1
  std::optional<double> top_p = {};        // in (0, 1]
  std::uint64_t seed = 42;
};

// p = softmax(logits / temperature); with top_k only the k most likely are left, then with top_p the fewest
// most likely whose sum reaches top_p of what is left (nucleus sampling, arXiv 1904.09751). Equal logits
// count in order of their id. The same options and logits give the same tokens.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options);
  std::int32_t operator()(std::span<const float> logits);

  // The tokens that can be drawn and their probabilities: most likely first with top_k or top_p, else by id.
  std::vector<std::pair<std::int32_t, double>> distribution(std::span<const float> logits) const;

 private:
  SamplerOptions options_;
  Rng rng_;
};

}  // namespace wedge::app
