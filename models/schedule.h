// Learning-rate schedule.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace wedge {

// Cosine annealing after an optional linear warm-up. Step k, counted from 0, of N:
//   k < warmup:  base · (k + 1) / warmup
//   otherwise:   ½ · base · (1 + cos(π (k - warmup) / (N - warmup))), and 0 from k = N on
inline double learning_rate_at(std::int64_t step, std::int64_t total_steps, double base,
                               std::int64_t warmup = 0) {
  if (step < warmup) return base * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (step >= total_steps) return 0;
  const double progress = static_cast<double>(step - warmup) / static_cast<double>(total_steps - warmup);
  return 0.5 * base * (1.0 + std::cos(std::numbers::pi * progress));
}

}  // namespace wedge
