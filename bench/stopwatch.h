// How a call is timed, on the CPU and on the GPU.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "tensor/device.h"

namespace wedge::bench {

// Seconds of body(): by the host's clock on the CPU, between two events on the GPU.
double seconds_of(Device device, const std::function<void()>& body);

// Seconds of the fastest body() in about 0.5 s, at least three after one to warm up.
double best_seconds(Device device, const std::function<void()>& body);

// How many sets of inputs of `bytes` each a call must take in turn so that none is still in the cache: three
// times the GPU's second level, at least 2 and at most 256. On the CPU 1, warm as a training step finds them.
std::int64_t sets_beyond_cache(Device device, double bytes);

// Work that is timed again and again: call(i) for each set of inputs i, one after the other.
//
// On the GPU the calls are a graph, replayed twice, the second time between two events: what is timed is the
// GPU's work, not the host's launches, as where step follows step. Where capturing fails (an operation that
// waits for the host), the calls are given to the stream as they are, and is_graph() tells.
class Stopwatch {
 public:
  // `call` keeps the results that it makes for its set, so that each has its own memory; `forget` drops them
  // all. Runs both.
  Stopwatch(Device device, std::int64_t sets, std::function<void(std::int64_t)> call,
            std::function<void()> forget);
  ~Stopwatch();

  std::int64_t sets() const { return sets_; }
  // Seconds of all sets together.
  double seconds();
  bool is_graph() const;
  // Why there is no graph, else empty.
  const std::string& why_no_graph() const { return why_no_graph_; }

 private:
  struct Replay;

  void run_all() const;

  Device device_;
  std::int64_t sets_;
  std::function<void(std::int64_t)> call_;
  std::function<void()> forget_;
  std::string why_no_graph_;
  std::unique_ptr<Replay> replay_;
};

}  // namespace wedge::bench
