// An array in the emulator's device memory.
#pragma once

#include <vector>

#include "tests/support/emulator/cuda_runtime.h"

namespace wedge::emulator_test {

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t n) : n_(n) { cudaMalloc(&data_, n * sizeof(T)); }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { set(values); }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  void set(const std::vector<T>& values) {
    cudaMemcpy(data_, values.data(), n_ * sizeof(T), cudaMemcpyHostToDevice);
  }
  std::vector<T> values() const {
    std::vector<T> result(n_);
    cudaMemcpy(result.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost);
    return result;
  }

 private:
  T* data_ = nullptr;
  std::size_t n_;
};

}  // namespace wedge::emulator_test
