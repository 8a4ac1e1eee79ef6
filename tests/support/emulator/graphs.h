// What the host's API must know of a capture.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda_runtime.h"

namespace wedge::emulator {

// The error of a call that waits, or that changes memory, while a stream is captured: the capture is lost. A
// `conflicting` call waits for the captured stream itself; the others a relaxed capture allows. cudaSuccess
// where there is no capture.
cudaError_t refuse_in_capture(bool conflicting);

int priority_of(cudaStream_t stream);

// A point of a capture: what comes after it comes after these nodes. `of` is the capture's number, 0: none.
struct CapturedPoint {
  std::uint64_t of = 0;
  std::vector<std::size_t> nodes;
};
// Where the stream is in the capture now.
CapturedPoint captured_point(cudaStream_t stream);
// What is given to the stream from now on comes after `point` too; a stream that was outside joins the
// capture.
cudaError_t wait_for(cudaStream_t stream, const CapturedPoint& point);

}  // namespace wedge::emulator
