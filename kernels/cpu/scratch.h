// Working memory of a kernel, from the tensors' cache: fresh pages would cost more than what is done with
// them.
#pragma once

#include "tensor/storage.h"

namespace wedge::cpu {

// n elements, not initialised.
template <class T>
class Scratch {
 public:
  explicit Scratch(std::int64_t n) : storage_(static_cast<std::size_t>(n) * sizeof(T), Device::cpu) {}
  T* data() const { return reinterpret_cast<T*>(storage_.data()); }
  T& operator[](std::int64_t i) const { return data()[i]; }

 private:
  Storage storage_;
};

}  // namespace wedge::cpu
