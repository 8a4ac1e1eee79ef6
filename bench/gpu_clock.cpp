#include "bench/gpu_clock.h"

#include <cuda_runtime.h>

#include "tensor/cuda/check.h"
#include "tensor/cuda/gpu.h"

namespace wedge::bench {
namespace {

struct Event {
  cudaEvent_t event{};
  Event() { cu::check(cudaEventCreate(&event), "event"); }
  ~Event() { cudaEventDestroy(event); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
};

}  // namespace

double gpu_seconds(const std::function<void()>& body) {
  const auto stream = static_cast<cudaStream_t>(cu::stream());
  const Event begin, end;
  cu::check(cudaEventRecord(begin.event, stream), "event");
  body();
  cu::check(cudaEventRecord(end.event, stream), "event");
  cu::check(cudaEventSynchronize(end.event), "timed work");
  float milliseconds = 0;
  cu::check(cudaEventElapsedTime(&milliseconds, begin.event, end.event), "event");
  return milliseconds / 1e3;
}

}  // namespace wedge::bench
