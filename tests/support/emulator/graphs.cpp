// Graphs: the work that is given to a stream between the begin and the end of its capture, as closures with
// copies of their arguments, run again by every launch.
#include "graphs.h"

#include <utility>
#include <vector>

#include "arena.h"

struct CUgraph_st {
  std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
  std::vector<std::function<void()>> work;
};

namespace wedge::emulator {
namespace {

struct Capture {
  cudaStream_t stream = nullptr;
  cudaStreamCaptureMode mode{};
  CUgraph_st* graph = nullptr;  // null: none is under way
  bool lost = false;
};
Capture capture;
std::uint64_t call_count = 0;

cudaError_t fail(cudaError_t status) {
  return arena().last_error = status;
}

}  // namespace

bool is_captured(cudaStream_t stream) {
  return capture.graph != nullptr && stream == capture.stream;
}
void capture_work(std::function<void()> work) {
  capture.graph->work.push_back(std::move(work));
}
void count_call() {
  ++call_count;
}
std::uint64_t calls() {
  return call_count;
}

cudaError_t refuse_in_capture(bool conflicting) {
  if (capture.graph == nullptr) return cudaSuccess;
  if (!conflicting && capture.mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  capture.lost = true;
  return fail(cudaErrorStreamCaptureUnsupported);
}

}  // namespace wedge::emulator

using namespace wedge::emulator;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (stream == nullptr) return fail(cudaErrorStreamCaptureUnsupported);
  if (capture.graph != nullptr) return fail(cudaErrorIllegalState);
  capture = {stream, mode, new CUgraph_st, false};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!is_captured(stream)) return fail(cudaErrorIllegalState);
  CUgraph_st* const captured = std::exchange(capture.graph, nullptr);
  if (capture.lost) {
    delete captured;
    return fail(cudaErrorStreamCaptureInvalidated);
  }
  *graph = captured;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = !is_captured(stream) ? cudaStreamCaptureStatusNone
            : capture.lost       ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  if (nodes != nullptr) return fail(cudaErrorNotSupported);
  *count = graph->work.size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (is_captured(stream)) return fail(cudaErrorNotSupported);  // a child graph, on a GPU
  count_call();
  for (const auto& work : executable->work) work();
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
