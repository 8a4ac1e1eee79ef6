#include "tensor/cuda/side_stream.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "tensor/cuda/check.h"
#include "tensor/cuda/gpu.h"

namespace wedge::cu {
namespace {

std::atomic<bool> is_on = true;

cudaStream_t first_stream() {
  return static_cast<cudaStream_t>(stream());
}

// What all of the process's SideStreams share. Made at the first use and never destroyed, as the GPU itself.
struct Side {
  cudaStream_t stream{};
  // Of the work itself: reused in the order of this stream.
  MemoryPool memory{MemoryPool::Blocks::fresh};
  std::mutex mutex;
  std::vector<cudaEvent_t> idle;

  Side() {
    int least = 0, greatest = 0;
    check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "priority of a stream");
    check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, least), "stream");
  }
  static Side& instance() {
    static Side* const side = new Side;
    return *side;
  }

  cudaEvent_t take_event() {
    const std::scoped_lock lock(mutex);
    cudaEvent_t event{};
    if (idle.empty()) {
      check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
    } else {
      event = idle.back();
      idle.pop_back();
    }
    return event;
  }
  // Whoever was told to wait for it waits for what it stood for then.
  void give_back(cudaEvent_t event) {
    const std::scoped_lock lock(mutex);
    idle.push_back(event);
  }
};

// What is given to `stream` from here on comes after what was given to `to` so far.
void wait(cudaStream_t stream, cudaEvent_t event, cudaStream_t to) {
  check(cudaEventRecord(event, to), "event");
  check(cudaStreamWaitEvent(stream, event, 0), "wait for a stream");
}

}  // namespace

void set_side_stream(bool on) {
  is_on = on;
}

void SideStream::leave() noexcept {
  try {
    join();
  } catch (...) {  // of a GPU that failed, or a capture that is lost: the next call tells
  }
}

void SideStream::run(std::vector<Tensor> reads, std::span<const float> to,
                     const std::function<void()>& body) {
  if (!is_on) return body();
  Side& side = Side::instance();
  std::size_t bytes = 0;
  for (const Tensor& t : reads) bytes += t.storage_bytes();
  const cudaEvent_t event = side.take_event();
  waiting_.push_back({std::move(reads), to, bytes, event});
  held_bytes_ += bytes;
  wait(side.stream, event, first_stream());
  // The work so far is waited for even if the body throws.
  struct Recorded {
    cudaEvent_t event;
    cudaStream_t stream;
    ~Recorded() { (void)cudaEventRecord(event, stream); }
  };
  {
    const Recorded recorded{event, side.stream};
    const MemoryPool::Scope memory(side.memory);
    const StreamScope scope(side.stream);
    body();
  }
  std::size_t count = 0, excess = held_bytes_ - std::min(held_bytes_, kMostBytes);
  for (; excess > 0 && count + 1 < waiting_.size(); ++count)
    excess -= std::min(excess, waiting_[count].bytes);
  wait_for(count);
}

void SideStream::settle(std::span<const float> to) {
  const auto writes = [&](const Work& work) {
    return work.to.data() < to.data() + to.size() && to.data() < work.to.data() + work.to.size();
  };
  const auto last = std::find_if(waiting_.rbegin(), waiting_.rend(), writes);
  wait_for(static_cast<std::size_t>(waiting_.rend() - last));
}

void SideStream::join() {
  wait_for(waiting_.size());
}

// The first `count`: the last of them is done when all are.
void SideStream::wait_for(std::size_t count) {
  if (count == 0) return;
  check(cudaStreamWaitEvent(first_stream(), static_cast<cudaEvent_t>(waiting_[count - 1].done), 0),
        "wait for a stream");
  for (; count > 0; --count) {
    Side::instance().give_back(static_cast<cudaEvent_t>(waiting_.front().done));
    held_bytes_ -= waiting_.front().bytes;
    waiting_.pop_front();
  }
}

}  // namespace wedge::cu
