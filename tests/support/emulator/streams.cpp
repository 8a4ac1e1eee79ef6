// Streams and events. Work is done when it is given, or captured: so a stream is a name, and an event a time
// or a point of the capture.
#include <chrono>

#include "arena.h"
#include "graphs.h"

using wedge::emulator::captured_point;
using wedge::emulator::CapturedPoint;
using wedge::emulator::is_captured;
using wedge::emulator::refuse_in_capture;

struct CUstream_st {
  unsigned flags;
  int priority;
};
struct CUevent_st {
  bool recorded = false;
  std::chrono::steady_clock::time_point time = {};
  CapturedPoint captured = {};  // of a capture: not recorded
};

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream = new CUstream_st{flags, 0};
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  *stream = new CUstream_st{flags, priority};
  return cudaSuccess;
}
int wedge::emulator::priority_of(cudaStream_t stream) {
  return stream == nullptr ? 0 : stream->priority;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return refuse_in_capture(is_captured(stream));
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event->captured.of != 0) return wedge::emulator::wait_for(stream, event->captured);
  if (!is_captured(stream)) return cudaSuccess;
  return wedge::emulator::arena().last_error = cudaErrorStreamCaptureIsolation;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const bool captured = is_captured(stream);
  *event = {!captured, std::chrono::steady_clock::now(), captured ? captured_point(stream) : CapturedPoint{}};
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->captured.of != 0) return wedge::emulator::arena().last_error = cudaErrorCapturedEvent;
  return refuse_in_capture(false);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return cudaEventSynchronize(event);
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  if (!from->recorded || !to->recorded) return cudaErrorInvalidResourceHandle;
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return cudaSuccess;
}
