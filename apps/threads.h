// How many threads compute.
#pragma once

#include <omp.h>

#include <cstdint>
#include <optional>

namespace wedge::app {

// Sets the number of OpenMP threads to train.threads, or without it back to what the process started with.
inline void use_threads(const std::optional<std::int64_t>& threads) {
  static const int at_start = omp_get_max_threads();
  omp_set_num_threads(threads ? static_cast<int>(*threads) : at_start);
}

}  // namespace wedge::app
