// The shared memory of the block that runs.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace wedge::emulator {

class SharedMemory {
 public:
  static constexpr std::size_t kMost = 227 * 1024, kMostFixed = 48 * 1024;  // bytes of a block, as on an H100
  static inline std::size_t most = kMost;                                   // set_shared_memory

  SharedMemory();

  // Forgets all arrays but the dynamic one, which gets so many bytes; everything is NaN again.
  void begin_block(std::size_t dynamic_bytes);
  // The array of this key: WEDGE_SHARED. Made when first asked for.
  void* fixed(const void* key, std::size_t bytes);
  void* dynamic() const;
  // Whether all of it lies in one array.
  bool holds(const void* p, std::size_t bytes) const;
  // Throws wedge::Error if the guard band of an array was overwritten.
  void check() const;

 private:
  struct Array {
    const void* key;  // null: the dynamic one
    std::byte* data;
    std::size_t bytes;
    std::byte* end;  // of the band behind it
  };
  void* add(const void* key, std::size_t bytes);

  std::unique_ptr<std::byte[]> memory_;
  std::byte* next_ = nullptr;
  std::vector<Array> arrays_;
  std::size_t dynamic_bytes_ = 0, fixed_bytes_ = 0;
};

}  // namespace wedge::emulator
