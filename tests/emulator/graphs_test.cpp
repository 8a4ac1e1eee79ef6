// The emulator's graphs: what is captured, what a launch runs again, what a capture forbids.
#include <string>

#include "tests/emulator/device_array.h"
#include "tests/emulator/kernels.h"
#include "tests/support/catch.h"
#include "tests/support/emulator/cublas_v2.h"

using namespace wedge;
using namespace wedge::emulator_test;

namespace {

struct Stream {
  cudaStream_t handle = nullptr;
  Stream() { cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking); }
  ~Stream() { cudaStreamDestroy(handle); }
};

using Values = std::vector<float>;

}  // namespace

TEST_CASE("emulator: a graph runs kernels, copies, fills and products again", "[emulator]") {
  const Stream stream;
  const DeviceArray<float> x(Values{1, 2, 3, 4}), y(Values(4, 0)), z(Values(4, 0)), product(Values(4, 7));
  cublasHandle_t blas;
  REQUIRE(cublasCreate(&blas) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(cublasSetStream(blas, stream.handle) == CUBLAS_STATUS_SUCCESS);

  REQUIRE(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal) == cudaErrorIllegalState);
  cudaStreamCaptureStatus status{};
  CHECK(cudaStreamIsCapturing(stream.handle, &status) == cudaSuccess);
  CHECK(status == cudaStreamCaptureStatusActive);
  const std::uint64_t calls = emulator::calls();
  reverse(4, x.data(), y.data(), stream.handle);
  CHECK(cudaMemcpyAsync(z.data(), y.data(), 2 * sizeof(float), cudaMemcpyDeviceToDevice, stream.handle) ==
        cudaSuccess);
  CHECK(cudaMemsetAsync(x.data() + 3, 0, sizeof(float), stream.handle) == cudaSuccess);
  {
    const float two = 2, zero = 0;  // gone when the graph runs
    CHECK(cublasGemmEx(blas, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &two, y.data(), CUDA_R_32F, 2, y.data(),
                       CUDA_R_32F, 2, &zero, product.data(), CUDA_R_32F, 2, CUBLAS_COMPUTE_32F,
                       CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS);
  }
  cudaGraph_t graph;
  REQUIRE(cudaStreamEndCapture(stream.handle, &graph) == cudaSuccess);
  CHECK(emulator::calls() == calls);
  CHECK(y.values() == Values(4, 0));  // nothing has run yet
  std::size_t nodes = 0;
  CHECK(cudaGraphGetNodes(graph, nullptr, &nodes) == cudaSuccess);
  CHECK(nodes == 4);

  cudaGraphExec_t executable;
  REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaGraphLaunch(executable, stream.handle) == cudaSuccess);
  CHECK(y.values() == Values{4, 3, 2, 1});
  CHECK(z.values() == Values{4, 3, 0, 0});
  CHECK(product.values() == Values{44, 30, 20, 14});
  CHECK(x.values() == Values{1, 2, 3, 0});
  const std::uint64_t before = emulator::calls();
  CHECK(cudaGraphLaunch(executable, stream.handle) == cudaSuccess);  // from what is there now
  CHECK(emulator::calls() == before + 1);
  CHECK(y.values() == Values{0, 3, 2, 1});
  CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
  CHECK(cublasDestroy(blas) == CUBLAS_STATUS_SUCCESS);
}

TEST_CASE("emulator: whoever waits or allocates during a capture loses it", "[emulator]") {
  const Stream stream;
  const DeviceArray<float> x(Values{1, 2});
  float on_host = 0;
  void* memory = nullptr;
  cudaEvent_t event;
  REQUIRE(cudaEventCreate(&event) == cudaSuccess);
  const auto lost_by = [&](cudaStreamCaptureMode mode, auto&& call) {
    REQUIRE(cudaStreamBeginCapture(stream.handle, mode) == cudaSuccess);
    const bool refused = call() == cudaErrorStreamCaptureUnsupported;
    cudaGraph_t graph;
    const cudaError_t status = cudaStreamEndCapture(stream.handle, &graph);
    CHECK(refused == (status == cudaErrorStreamCaptureInvalidated));
    CHECK(refused == (graph == nullptr));
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    return refused;
  };
  constexpr auto kLocal = cudaStreamCaptureModeThreadLocal, kRelaxed = cudaStreamCaptureModeRelaxed;
  for (const auto mode : {kLocal, kRelaxed}) {
    CHECK(lost_by(mode, [&] { return cudaStreamSynchronize(stream.handle); }));
    CHECK(lost_by(mode, [] { return cudaDeviceSynchronize(); }));
    CHECK(lost_by(mode, [&] { return cudaMemcpy(&on_host, x.data(), 4, cudaMemcpyDeviceToHost); }));
    CHECK(lost_by(mode, [&] { return cudaMalloc(&memory, 4); }) == (mode == kLocal));
    CHECK(lost_by(mode, [&] { return cudaEventSynchronize(event); }) == (mode == kLocal));
    cudaFree(memory);
  }
  REQUIRE(cudaStreamBeginCapture(stream.handle, kLocal) == cudaSuccess);
  CHECK(cudaMallocAsync(&memory, 4, stream.handle) == cudaErrorNotSupported);
  CHECK(cudaEventRecord(event, stream.handle) == cudaSuccess);
  CHECK(cudaEventSynchronize(event) == cudaErrorCapturedEvent);
  cudaGraph_t graph;
  CHECK(cudaStreamEndCapture(stream.handle, &graph) == cudaSuccess);
  cudaGraphDestroy(graph);
  CHECK(cudaStreamEndCapture(stream.handle, &graph) == cudaErrorIllegalState);
  CHECK(std::string(cudaGetErrorString(cudaErrorStreamCaptureUnsupported)) ==
        "operation not permitted when stream is capturing");
  cudaGetLastError();
  cudaEventDestroy(event);
}

namespace {

// x reversed into y, on a second stream then y into z, while on the first x is filled with zeros; the second
// stream waits for the first, and the first for it, where it is told to.
struct Forked {
  cudaError_t ended;
  bool right = true;  // z is x as it was, for all seeds
};
Forked run_forked(bool forks, bool joins) {
  const Stream stream, beside;
  DeviceArray<float> x(Values{1, 2, 3, 4}), y(Values(4, 0)), z(Values(4, 0)), w(Values(4, 0));
  cudaEvent_t event;
  REQUIRE(cudaEventCreate(&event) == cudaSuccess);
  const auto order = [&](const Stream& before, const Stream& after) {
    CHECK(cudaEventRecord(event, before.handle) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(after.handle, event) == cudaSuccess);
  };
  REQUIRE(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  if (!forks) order(stream, beside);  // too early
  reverse(4, x.data(), y.data(), stream.handle);
  if (forks) order(stream, beside);
  reverse(4, y.data(), z.data(), beside.handle);
  cudaStreamCaptureStatus status{};
  CHECK(cudaStreamIsCapturing(beside.handle, &status) == cudaSuccess);
  CHECK(status == cudaStreamCaptureStatusActive);
  CHECK(cudaMemsetAsync(x.data(), 0, 4 * sizeof(float), stream.handle) == cudaSuccess);
  if (joins) order(beside, stream);
  CHECK(cudaMemcpyAsync(w.data(), z.data(), 4 * sizeof(float), cudaMemcpyDeviceToDevice, stream.handle) ==
        cudaSuccess);
  if (!joins) order(beside, stream);  // too late

  cudaGraph_t graph;
  Forked result{cudaStreamEndCapture(stream.handle, &graph)};
  REQUIRE(result.ended == cudaSuccess);
  CHECK(cudaStreamIsCapturing(beside.handle, &status) == cudaSuccess);
  CHECK(status == cudaStreamCaptureStatusNone);
  cudaGraphExec_t executable;
  REQUIRE(cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    emulator::set_seed(seed);
    x.set({1, 2, 3, 4});
    z.set(Values(4, 0));
    y.set(Values(4, 0));
    CHECK(cudaGraphLaunch(executable, stream.handle) == cudaSuccess);
    result.right = result.right && w.values() == Values{1, 2, 3, 4};
  }
  CHECK(cudaStreamWaitEvent(beside.handle, event) == cudaErrorCapturedEvent);  // of a capture that is over
  cudaGetLastError();
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaEventDestroy(event);
  return result;
}

}  // namespace

TEST_CASE("emulator: of two streams in a graph either may run ahead, but for their events", "[emulator]") {
  CHECK(run_forked(true, true).right);
  CHECK_FALSE(run_forked(false, true).right);
  CHECK_FALSE(run_forked(true, false).right);
}

TEST_CASE("emulator: a capture ends when its streams have come together", "[emulator]") {
  const Stream stream, beside;
  const DeviceArray<float> x(Values{1, 2}), y(Values(2, 0));
  cudaEvent_t event;
  REQUIRE(cudaEventCreate(&event) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK(cudaEventRecord(event, stream.handle) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(beside.handle, event) == cudaSuccess);
  reverse(2, x.data(), y.data(), beside.handle);
  cudaGraph_t graph;
  CHECK(cudaStreamEndCapture(beside.handle, &graph) == cudaErrorIllegalState);
  CHECK(cudaStreamEndCapture(stream.handle, &graph) == cudaErrorStreamCaptureUnjoined);
  CHECK(graph == nullptr);
  CHECK(std::string(cudaGetErrorName(cudaErrorStreamCaptureUnjoined)) == "cudaErrorStreamCaptureUnjoined");
  cudaGetLastError();
  cudaEventDestroy(event);
}
