// What the host's API must know of a capture.
#pragma once

#include "cuda_runtime.h"

namespace wedge::emulator {

// The error of a call that waits, or that changes memory, while a stream is captured: the capture is lost. A
// `conflicting` call waits for the captured stream itself; the others a relaxed capture allows. cudaSuccess
// where there is no capture.
cudaError_t refuse_in_capture(bool conflicting);

}  // namespace wedge::emulator
