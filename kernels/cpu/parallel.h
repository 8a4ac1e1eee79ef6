// Static splitting of loops over OpenMP threads: the same split for the same thread count, so the same bits.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <exception>

#include "tensor/round_up.h"

namespace wedge::cpu {

// Calls body(begin, end) on disjoint ranges that cover [0, n). Ranges start at multiples of `grain`, and a
// thread gets nothing smaller, so small work stays on one thread.
template <class Body>
void parallel_for(std::int64_t n, std::int64_t grain, Body&& body) {
  const std::int64_t blocks = ceil_div(n, grain);
  const int threads = static_cast<int>(std::min<std::int64_t>(omp_get_max_threads(), blocks));
  if (threads <= 1 || omp_in_parallel()) {
    if (n > 0) body(std::int64_t{0}, n);
    return;
  }
  // An exception must not leave a parallel region: the first one is carried out of it.
  std::exception_ptr error;
#pragma omp parallel num_threads(threads)
  {
    const std::int64_t t = omp_get_thread_num(), count = omp_get_num_threads();
    const std::int64_t begin = blocks * t / count * grain,
                       end = std::min(n, blocks * (t + 1) / count * grain);
    try {
      if (begin < end) body(begin, end);
    } catch (...) {
#pragma omp critical(wedge_parallel_error)
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

// Elements below which a second thread costs more than it saves.
inline constexpr std::int64_t kElementGrain = 16384;

// parallel_for over rows of `width` elements each.
template <class Body>
void parallel_rows(std::int64_t rows, std::int64_t width, Body&& body) {
  parallel_for(rows, std::max<std::int64_t>(1, kElementGrain / std::max<std::int64_t>(1, width)), body);
}

}  // namespace wedge::cpu
