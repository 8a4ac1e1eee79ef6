// Sums over rows that do not depend on the number of threads: fixed blocks of rows, added up in order.
#pragma once

#include <vector>

#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"

namespace wedge::cpu {

inline constexpr std::int64_t kRowBlock = 64;

// Calls body(first_row, end_row, partial) for each block of rows with a zeroed partial of `width` values, in
// parallel, then hands each column's total to finish(column, total).
template <class T, class Body, class Finish>
void sum_row_blocks(std::int64_t rows, std::int64_t width, Body&& body, Finish&& finish) {
  const std::int64_t blocks = ceil_div(rows, kRowBlock);
  std::vector<T> partials(static_cast<std::size_t>(blocks * width), T(0));
  parallel_for(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      body(b * kRowBlock, std::min(rows, (b + 1) * kRowBlock), partials.data() + b * width);
  });
  std::vector<double> totals(static_cast<std::size_t>(width), 0.0);
  for (std::int64_t b = 0; b < blocks; ++b)
    for (std::int64_t i = 0; i < width; ++i) totals[i] += partials[b * width + i];
  for (std::int64_t i = 0; i < width; ++i) finish(i, static_cast<T>(totals[i]));
}

}  // namespace wedge::cpu
