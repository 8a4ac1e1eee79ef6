#include "tensor/cuda/graph.h"

#include <cuda_runtime.h>

#include <atomic>

#include "tensor/check.h"
#include "tensor/cuda/check.h"
#include "tensor/cuda/gpu.h"

namespace wedge::cu {
namespace {

std::atomic<std::uint64_t> captures = 0, current_capture = 0;

struct NumberedCapture {
  NumberedCapture() { current_capture = ++captures; }
  ~NumberedCapture() { current_capture = 0; }
};

}  // namespace

std::uint64_t capture_id() {
  return current_capture;
}

Graph Graph::capture(const std::function<void()>& body) {
  const auto stream = static_cast<cudaStream_t>(cu::stream());
  // Thread-local: what other threads do meanwhile, waiting or not, is their affair.
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin of a graph");
  cudaGraph_t captured = nullptr;
  try {
    const NumberedCapture numbered;
    body();
  } catch (...) {
    (void)cudaStreamEndCapture(stream, &captured);
    if (captured != nullptr) (void)cudaGraphDestroy(captured);
    (void)cudaGetLastError();  // the body's error is the one to tell
    throw;
  }
  check(cudaStreamEndCapture(stream, &captured), "end of a graph");
  const std::unique_ptr<CUgraph_st, void (*)(cudaGraph_t)> owner(
      captured, [](cudaGraph_t g) { (void)cudaGraphDestroy(g); });
  Graph graph;
  cudaGraphExec_t executable = nullptr;
  // Else the side stream's work would have the priority of the stream that the graph is launched on.
  check(cudaGraphInstantiate(&executable, captured, cudaGraphInstantiateFlagUseNodePriority), "graph");
  graph.executable_ = {executable, [](cudaGraphExec_t g) { (void)cudaGraphExecDestroy(g); }};
  check(cudaGraphGetNodes(captured, nullptr, &graph.nodes_), "graph");
  return graph;
}

void Graph::replay() const {
  WEDGE_CHECK(defined(), "cuda: replay of a graph that was not captured");
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_.get()), static_cast<cudaStream_t>(stream())),
        "graph");
}

}  // namespace wedge::cu
