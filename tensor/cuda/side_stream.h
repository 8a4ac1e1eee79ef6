// Work that nobody waits for yet, beside the work that others wait for.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace wedge::cu {

// A second stream of the GPU, of lower priority, for work of this thread from run() to join(). Its kernels
// may take multiprocessors that the first stream's leave idle. The results are the same as of that work done
// in its place. In a capture (tensor/cuda/graph.h) it is a branch of the graph.
//
// Declared without CUDA and, as what gpu.h declares, used only where there is CUDA.
class SideStream {
 public:
  // Memory that is held for work that waits, at most, if more than one does: beyond, the first stream waits
  // for the oldest.
  static constexpr std::size_t kMostBytes = std::size_t{384} << 20;

  SideStream() = default;
  // Joins.
  ~SideStream() {
    if constexpr (kWithCuda) leave();
  }
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  // Calls body(), in which stream() is the second stream: its work comes after all that was given to the
  // first before, and beside what is given to it later. `reads`: the tensors of others that it reads; they are
  // kept alive and must not be changed meanwhile. `to`: what it writes, which nobody touches before settle(to)
  // or join(). What it allocates it frees.
  void run(std::vector<Tensor> reads, std::span<const float> to, const std::function<void()>& body);
  // Lets the first stream wait for what writes to `to`, or for everything. Returns at once.
  void settle(std::span<const float> to);
  void join();

 private:
  struct Work {
    std::vector<Tensor> reads;
    std::span<const float> to;
    std::size_t bytes;
    void* done;  // a cudaEvent_t
  };
  void leave() noexcept;
  void wait_for(std::size_t count);

  std::deque<Work> waiting_;  // in the order in which it came
  std::size_t held_bytes_ = 0;
};

// Whether SideStream::run does its work beside the first stream's; true at first. Else it is done in its
// place, by the first: for comparison.
void set_side_stream(bool on);

}  // namespace wedge::cu
