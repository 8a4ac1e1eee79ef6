// Work on the stream that is captured once and then given to the GPU in one call, which costs the host
// microseconds whatever there is in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace wedge::cu {

// Declared without CUDA and, as what gpu.h declares, used only where there is CUDA. Copies are the same
// graph.
class Graph {
 public:
  Graph() = default;

  // Calls body(), whose work on the stream is captured, not done. replay() does it with the same pointers and
  // numbers: what changes from one replay to the next must lie in device memory. The body's host code is not
  // run again: no new version of a tensor, no gradient that is there or gone.
  //
  // The body must find its memory in the cache, and nobody else may use it later: run the body once before,
  // in the scope of a MemoryPool (tensor/storage.h) that the capture is in too and that outlives the graph.
  // Throws wedge::Error when it allocates, waits, or copies from or to the host, and what it throws itself.
  // Not for use with guard bands, which are read when a block is freed.
  static Graph capture(const std::function<void()>& body);

  bool defined() const { return executable_ != nullptr; }
  // Returns at once.
  void replay() const;
  // Kernels, copies and fills that a replay does.
  std::size_t nodes() const { return nodes_; }

 private:
  std::shared_ptr<void> executable_;  // a cudaGraphExec_t
  std::size_t nodes_ = 0;
};

// Of the capture that runs now, each having a number of its own; 0 when none does.
std::uint64_t capture_id();

}  // namespace wedge::cu
