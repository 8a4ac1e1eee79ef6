#include "bench/stopwatch.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "bench/gpu_clock.h"
#include "tensor/check.h"
#include "tensor/cuda/gpu.h"
#include "tensor/cuda/graph.h"
#include "tensor/storage.h"

namespace wedge::bench {

double seconds_of(Device device, const std::function<void()>& body) {
  if constexpr (kWithCuda)
    if (device == Device::cuda) return gpu_seconds(body);
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double best_seconds(Device device, const std::function<void()>& body) {
  body();
  double best = 1e9, total = 0;
  for (int calls = 0; calls < 3 || total < 0.5; ++calls) {
    const double seconds = seconds_of(device, body);
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

std::int64_t sets_beyond_cache(Device device, double bytes) {
  if constexpr (kWithCuda)
    if (device == Device::cuda)
      return static_cast<std::int64_t>(
          std::clamp(std::ceil(3 * static_cast<double>(cu::l2_bytes()) / std::max(1.0, bytes)), 2.0, 256.0));
  return 1;
}

// The graph, and the memory that its addresses are in.
struct Stopwatch::Replay {
  MemoryPool pool;
  cu::Graph graph;
};

Stopwatch::Stopwatch(Device device, std::int64_t sets, std::function<void(std::int64_t)> call,
                     std::function<void()> forget)
    : device_(device), sets_(sets), call_(std::move(call)), forget_(std::move(forget)) {
  if constexpr (kWithCuda) {
    if (device == Device::cuda) {
      replay_ = std::make_unique<Replay>();
      const MemoryPool::Scope scope(replay_->pool);
      run_all();
      forget_();
      try {
        replay_->graph = cu::Graph::capture([this] { run_all(); });
      } catch (const Error& e) {
        why_no_graph_ = e.what();
      }
      forget_();
    }
  }
  seconds();  // warms up
}

Stopwatch::~Stopwatch() {
  forget_();
}

double Stopwatch::seconds() {
  if constexpr (kWithCuda)
    if (is_graph()) {
      // The host gives the GPU the second while the first runs: unless that takes less time than launching,
      // no launch is waited for within the time.
      replay_->graph.replay();
      return gpu_seconds([this] { replay_->graph.replay(); });
    }
  const double seconds = seconds_of(device_, [this] { run_all(); });
  forget_();
  return seconds;
}

bool Stopwatch::is_graph() const {
  return replay_ && replay_->graph.defined();
}

void Stopwatch::run_all() const {
  for (std::int64_t set = 0; set < sets_; ++set) call_(set);
}

}  // namespace wedge::bench
