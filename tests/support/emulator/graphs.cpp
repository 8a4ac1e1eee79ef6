// Graphs: the work that is given to a stream, and to those that wait for it, between the begin and the end of
// its capture, as closures with copies of their arguments, run again by every launch in an order that the
// seed draws from those that the streams and events allow.
#include "graphs.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "arena.h"

namespace {

struct Node {
  std::function<void()> work;
  std::vector<std::size_t> after;  // earlier nodes
  int priority;
};

}  // namespace

struct CUgraph_st {
  std::vector<Node> nodes;
};
struct CUgraphExec_st {
  std::vector<Node> nodes;
};

namespace wedge::emulator {
namespace {

struct Capture {
  cudaStream_t origin = nullptr;
  cudaStreamCaptureMode mode{};
  CUgraph_st* graph = nullptr;  // null: none is under way
  std::uint64_t number = 0;
  std::map<cudaStream_t, std::vector<std::size_t>> last = {};  // what a stream's next work comes after
  bool lost = false;
};
Capture capture;
std::uint64_t call_count = 0, capture_count = 0;

cudaError_t fail(cudaError_t status) {
  return arena().last_error = status;
}

void add(std::vector<std::size_t>& to, const std::vector<std::size_t>& nodes) {
  for (const std::size_t node : nodes)
    if (std::ranges::find(to, node) == to.end()) to.push_back(node);
}

// Whether the origin's next work would come after all that was captured.
bool all_joined() {
  std::set<std::size_t> before;
  std::vector<std::size_t> open = capture.last[capture.origin];
  while (!open.empty()) {
    const std::size_t node = open.back();
    open.pop_back();
    if (before.insert(node).second) add(open, capture.graph->nodes[node].after);
  }
  return std::ranges::all_of(capture.last, [&](const auto& stream) {
    return std::ranges::all_of(stream.second, [&](std::size_t node) { return before.contains(node); });
  });
}

// Runs every node once, after those that it comes after. Of the nodes that could run, a launch takes always
// the earliest, always the latest, or any: a stream runs far ahead of another, or far behind.
void run_in_some_order(const std::vector<Node>& nodes) {
  std::vector<std::vector<std::size_t>> next(nodes.size());
  std::vector<std::size_t> waits_for(nodes.size());
  std::vector<std::size_t> ready;  // ascending
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    waits_for[i] = nodes[i].after.size();
    for (const std::size_t before : nodes[i].after) next[before].push_back(i);
    if (waits_for[i] == 0) ready.push_back(i);
  }
  const std::uint64_t order = draw() % 3;
  while (!ready.empty()) {
    const std::size_t at = order == 0 ? 0 : order == 1 ? ready.size() - 1 : draw() % ready.size();
    const std::size_t node = ready[at];
    ready.erase(ready.begin() + static_cast<std::ptrdiff_t>(at));
    nodes[node].work();
    for (const std::size_t i : next[node])
      if (--waits_for[i] == 0) ready.insert(std::ranges::upper_bound(ready, i), i);
  }
}

}  // namespace

bool is_captured(cudaStream_t stream) {
  return capture.graph != nullptr && capture.last.contains(stream);
}
void capture_work(cudaStream_t stream, std::function<void()> work) {
  std::vector<Node>& nodes = capture.graph->nodes;
  nodes.push_back(
      {std::move(work), std::exchange(capture.last[stream], {nodes.size()}), priority_of(stream)});
}
CapturedPoint captured_point(cudaStream_t stream) {
  return {capture.number, capture.last[stream]};
}
cudaError_t wait_for(cudaStream_t stream, const CapturedPoint& point) {
  if (capture.graph == nullptr || point.of != capture.number) return fail(cudaErrorCapturedEvent);
  add(capture.last[stream], point.nodes);
  return cudaSuccess;
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
  capture = {stream, mode, new CUgraph_st, ++capture_count, {{stream, {}}}, false};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (capture.graph == nullptr || stream != capture.origin) return fail(cudaErrorIllegalState);
  const bool joined = all_joined();
  CUgraph_st* const captured = std::exchange(capture.graph, nullptr);
  if (capture.lost || !joined) {
    delete captured;
    return fail(capture.lost ? cudaErrorStreamCaptureInvalidated : cudaErrorStreamCaptureUnjoined);
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
  *count = graph->nodes.size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  if ((flags & ~static_cast<unsigned long long>(cudaGraphInstantiateFlagUseNodePriority)) != 0)
    return fail(cudaErrorInvalidValue);
  // A GPU would take it and forget that one stream's work was to come first.
  const auto differs = [&](const Node& node) { return node.priority != graph->nodes[0].priority; };
  if (flags == 0 && std::ranges::any_of(graph->nodes, differs)) return fail(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (is_captured(stream)) return fail(cudaErrorNotSupported);  // a child graph, on a GPU
  count_call();
  run_in_some_order(executable->nodes);
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
