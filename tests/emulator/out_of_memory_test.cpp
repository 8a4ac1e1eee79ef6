// A GPU without room for a tensor: the error says what was asked for and what there was, and memory of freed
// tensors is used before it comes to that.
#include <cuda_runtime.h>

#include "tensor/cuda/gpu.h"
#include "tensor/tensor.h"
#include "tests/support/catch.h"
#include "tests/support/emulator/emulator.h"

using namespace wedge;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("emulator: tensors beyond the device's memory", "[emulator]") {
  constexpr std::size_t kRoom = std::size_t{1} << 20, kWhole = std::size_t{4} << 30;
  struct Limit {
    Limit() {
      release_cached_memory();
      const auto [free, total] = cu::device_memory();
      emulator::set_device_memory(total - free + kRoom);
    }
    ~Limit() {
      release_cached_memory();
      emulator::set_device_memory(kWhole);
    }
  } const limit;
  CHECK(cu::device_memory().free == kRoom);
  const auto floats = [](std::int64_t n) { return Tensor::empty({n}, DType::f32, Device::cuda); };
  CHECK_THROWS_WITH(floats(1 << 19),
                    ContainsSubstring("cuda: out of memory: 2097152 bytes asked for, 1048576 free of "));
  // 600 KB, freed and kept in the cache, stand in the way of 700 KB until they are given back.
  floats(150'000);
  CHECK(floats(175'000).numel() == 175'000);
  const Tensor held = floats(150'000);
  CHECK_THROWS_WITH(floats(150'000), ContainsSubstring("out of memory"));
}

TEST_CASE("emulator: memory that cannot be released is not the next launch's fault", "[emulator]") {
  const auto* const freed = Tensor::empty({3}, DType::f32, Device::cuda).data<float>();
  release_cached_memory();
  cudaGetLastError();
  cu::release(reinterpret_cast<std::byte*>(const_cast<float*>(freed)));
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaFreeAsync(const_cast<float*>(freed), nullptr) == cudaErrorInvalidValue);  // what was cleared
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
}
