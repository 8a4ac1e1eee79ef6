// The emulator's host side: device memory, copies, products.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <string>

#include "tensor/check.h"
#include "tensor/dtype.h"
#include "tensor/rng.h"
#include "tests/emulator/device_array.h"
#include "tests/emulator/kernels.h"
#include "tests/support/catch.h"
#include "tests/support/emulator/cublas_v2.h"

using namespace wedge;
using namespace wedge::emulator_test;
using Catch::Matchers::ContainsSubstring;

namespace {

// The signal that ends a process which touches *p, or 0.
int signal_on_touch(float* p, bool write) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    volatile float* const at = p;
    if (write) {
      *at = 1;
    } else {
      const float value = *at;
      (void)value;
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace

TEST_CASE("emulator: host code cannot touch device memory", "[emulator]") {
  const DeviceArray<float> x(std::vector<float>(8, 2.0f));
  CHECK(signal_on_touch(x.data(), false) == SIGSEGV);
  CHECK(signal_on_touch(x.data(), true) == SIGSEGV);
  const DeviceArray<float> y(8);
  reverse(8, x.data(), y.data());
  CHECK(signal_on_touch(x.data(), false) == SIGSEGV);
  emulator::set_host_access(true);
  CHECK(signal_on_touch(x.data(), false) == 0);
  CHECK(x.data()[3] == 2.0f);
  emulator::set_host_access(false);
  CHECK(signal_on_touch(x.data(), false) == SIGSEGV);
  CHECK(y.values() == std::vector<float>(8, 2.0f));
}

TEST_CASE("emulator: a kernel is refused a pointer to host memory", "[emulator]") {
  const std::vector<float> host(1 << 18, 1.0f);
  const DeviceArray<float> x(8);
  const float on_stack[8] = {};
  CHECK_THROWS_WITH(reverse(8, host.data(), x.data()),
                    ContainsSubstring("reverse: argument 0 holds a pointer to host"));
  CHECK_THROWS_WITH(reverse(8, on_stack, x.data()), ContainsSubstring("host memory"));
  CHECK_THROWS_WITH(reverse(8, x.data(), const_cast<float*>(host.data())), ContainsSubstring("argument 1"));
}

TEST_CASE("emulator: launches that a GPU refuses", "[emulator]") {
  const DeviceArray<std::uint64_t> out(std::vector<std::uint64_t>(2048, 0));
  CHECK_THROWS_WITH(indices(1, 2048, out.data()), ContainsSubstring("indices: invalid configuration"));
  CHECK_THROWS_WITH(indices(1, 0, out.data()), ContainsSubstring("block (0, 1, 1)"));
  CHECK_THROWS_WITH(indices(0, 1, out.data()), ContainsSubstring("grid (0, 1, 1)"));
  CHECK_THROWS_WITH(indices(dim3(1, 65536), 1, out.data()), ContainsSubstring("invalid configuration"));
  const auto nothing = [] {};
  CHECK_THROWS_WITH(emulator::run({"large", 1, 32, 228 * 1024, nullptr}, nothing),
                    ContainsSubstring("bytes of shared memory"));
  CHECK_NOTHROW(emulator::run({"largest", 1, 32, 227 * 1024, nullptr}, nothing));
}

TEST_CASE("emulator: device memory begins as NaN, is reused, and runs out", "[emulator]") {
  {
    const DeviceArray<float> x(1000);
    for (const float value : x.values()) REQUIRE(std::isnan(value));
  }
  float* first = nullptr;
  REQUIRE(cudaMalloc(&first, 1 << 20) == cudaSuccess);
  REQUIRE(cudaFree(first) == cudaSuccess);
  float* second = nullptr;
  REQUIRE(cudaMallocAsync(&second, 1 << 20, nullptr) == cudaSuccess);
  CHECK(reinterpret_cast<std::uintptr_t>(second) % 256 == 0);
  REQUIRE(cudaFreeAsync(second, nullptr) == cudaSuccess);
  CHECK(cudaFree(second) == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaGetLastError() == cudaSuccess);

  std::size_t free = 0, total = 0;
  REQUIRE(cudaMemGetInfo(&free, &total) == cudaSuccess);
  const std::size_t held = total - free;
  emulator::set_device_memory(held + 5000);
  void *a = nullptr, *b = nullptr;
  CHECK(cudaMalloc(&a, 3000) == cudaSuccess);
  CHECK(cudaMallocAsync(&b, 3000, nullptr) == cudaErrorMemoryAllocation);
  CHECK(b == nullptr);
  CHECK(std::string(cudaGetErrorString(cudaGetLastError())) == "out of memory");
  CHECK(cudaMemGetInfo(&free, &total) == cudaSuccess);
  CHECK(free == 2000);
  CHECK(cudaFree(a) == cudaSuccess);
  emulator::set_device_memory(std::size_t{4} << 30);
}

TEST_CASE("emulator: copies know which side is which", "[emulator]") {
  std::vector<float> host(16, 3.0f);
  const DeviceArray<float> x(host), y(16);
  CHECK(cudaMemcpyAsync(y.data(), x.data(), 64, cudaMemcpyDeviceToDevice, nullptr) == cudaSuccess);
  CHECK(y.values() == host);
  CHECK(cudaMemsetAsync(y.data(), 0, 32, nullptr) == cudaSuccess);
  CHECK(y.values()[7] == 0.0f);
  CHECK(y.values()[8] == 3.0f);
  CHECK(cudaMemcpy(x.data(), host.data(), 64, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(host.data(), x.data(), 68, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(x.data(), host.data(), 64, cudaMemcpyDeviceToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemset(x.data() + 1, 0, 64) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy(x.data() + 1, host.data(), 60, cudaMemcpyDefault) == cudaSuccess);
  cudaGetLastError();
}

TEST_CASE("emulator: gemm against plain loops", "[emulator]") {
  const bool ta = GENERATE(false, true), tb = GENERATE(false, true);
  const bool float_in = GENERATE(true, false), float_out = GENERATE(true, false);
  const float alpha = 0.5f, beta = GENERATE(0.0f, 1.0f, -0.25f);
  if (float_in && !float_out) return;
  Rng rng(5);
  cublasHandle_t handle;
  REQUIRE(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS);
  for (const auto& [m, n, k, batches] :
       {std::array<int, 4>{1, 1, 1, 1}, {5, 3, 7, 2}, {33, 17, 64, 3}, {4, 5, 0, 1}}) {
    const int lda = (ta ? k : m) + 3, ldb = (tb ? n : k) + 1, ldc = m + 2;
    const long long stride_a = lda * (ta ? m : k) + 5, stride_b = ldb * (tb ? k : n), stride_c = ldc * n + 4;
    const auto draw = [&](long long count, bool is_float) {
      std::vector<float> values(static_cast<std::size_t>(count));
      for (float& value : values) {
        value = static_cast<float>(rng.normal());
        if (!is_float) value = static_cast<float>(BFloat16(value));
      }
      return values;
    };
    const std::vector<float> A = draw(stride_a * batches + 1, float_in),
                             B = draw(stride_b * batches + 1, float_in);
    std::vector<float> C = draw(stride_c * batches, float_out);
    if (beta == 0) C.assign(C.size(), NAN);  // must not be read
    const auto narrow = [](const std::vector<float>& values) {
      std::vector<BFloat16> result;
      for (const float value : values) result.emplace_back(value);
      return result;
    };
    const DeviceArray<float> a(A), b(B), c(C);
    const DeviceArray<BFloat16> a16(narrow(A)), b16(narrow(B)), c16(narrow(C));
    const auto in = float_in ? CUDA_R_32F : CUDA_R_16BF, out = float_out ? CUDA_R_32F : CUDA_R_16BF;
    const auto pick = [](bool is_float, const void* f, const void* h) {
      return const_cast<void*>(is_float ? f : h);
    };
    REQUIRE(cublasGemmStridedBatchedEx(
                handle, ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k, &alpha,
                pick(float_in, a.data(), a16.data()), in, lda, stride_a, pick(float_in, b.data(), b16.data()),
                in, ldb, stride_b, &beta, pick(float_out, c.data(), c16.data()), out, ldc, stride_c, batches,
                CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS);
    std::vector<float> result;
    if (float_out) {
      result = c.values();
    } else {
      for (const BFloat16 value : c16.values()) result.push_back(static_cast<float>(value));
    }
    for (int batch = 0; batch < batches; ++batch)
      for (int j = 0; j < n; ++j)
        for (int i = 0; i < m; ++i) {
          double sum = 0;
          for (int l = 0; l < k; ++l)
            sum += double{A[static_cast<std::size_t>(batch * stride_a + (ta ? i * lda + l : l * lda + i))]} *
                   B[static_cast<std::size_t>(batch * stride_b + (tb ? l * ldb + j : j * ldb + l))];
          const auto at = static_cast<std::size_t>(batch * stride_c + j * ldc + i);
          const double expected = alpha * sum + (beta == 0 ? 0.0 : beta * double{C[at]});
          REQUIRE(result[at] == Approx(expected).epsilon(float_out ? 1e-5 : 0x1p-8).margin(1e-5));
        }
    // The padding of C keeps what it held.
    if (m > 0 && ldc > m && float_out && beta != 0)
      CHECK(result[static_cast<std::size_t>(m)] == C[static_cast<std::size_t>(m)]);
  }
  CHECK(cublasDestroy(handle) == CUBLAS_STATUS_SUCCESS);
}

TEST_CASE("emulator: gemm refuses what cuBLAS refuses, and matrices out of bounds", "[emulator]") {
  cublasHandle_t handle;
  REQUIRE(cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS);
  const DeviceArray<float> a(std::vector<float>(12, 1.0f)), c(12);
  const float one = 1, zero = 0;
  const auto gemm = [&](int m, int n, int k, int lda, cudaDataType c_type) {
    return cublasGemmEx(handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, a.data(), CUDA_R_32F, lda, a.data(),
                        CUDA_R_32F, k, &zero, c.data(), c_type, std::max(m, 1), CUBLAS_COMPUTE_32F,
                        CUBLAS_GEMM_DEFAULT);
  };
  CHECK(gemm(3, 4, 3, 3, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS);
  CHECK(c.values() == std::vector<float>(12, 3.0f));
  CHECK(gemm(3, 4, 3, 2, CUDA_R_32F) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(gemm(3, -1, 3, 3, CUDA_R_32F) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(gemm(3, 4, 3, 3, CUDA_R_16BF) == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(gemm(0, 4, 3, 3, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS);
  CHECK_THROWS_WITH(gemm(3, 4, 3, 8, CUDA_R_32F),
                    ContainsSubstring("A of batch 0, [3, 3] with leading dimension 8"));
  CHECK_THROWS_WITH(gemm(4, 4, 3, 4, CUDA_R_32F), ContainsSubstring("C of batch 0"));
  CHECK(cublasDestroy(handle) == CUBLAS_STATUS_SUCCESS);
}

TEST_CASE("emulator: one device, streams and events", "[emulator]") {
  int count = 0, processors = 0;
  CHECK(cudaGetDeviceCount(&count) == cudaSuccess);
  CHECK(count == 1);
  CHECK(cudaSetDevice(1) == cudaErrorInvalidDevice);
  cudaGetLastError();
  CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0) == cudaSuccess);
  CHECK(processors == 4);
  cudaStream_t stream;
  cudaEvent_t from, to;
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  CHECK(cudaEventCreate(&from) == cudaSuccess);
  CHECK(cudaEventCreate(&to) == cudaSuccess);
  float ms = -1;
  CHECK(cudaEventElapsedTime(&ms, from, to) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventRecord(from, stream) == cudaSuccess);
  CHECK(cudaEventRecord(to, stream) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&ms, from, to) == cudaSuccess);
  CHECK(ms >= 0);
  CHECK(cudaEventDestroy(from) == cudaSuccess);
  CHECK(cudaEventDestroy(to) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
}
