// Where device memory comes from.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>

#include "cuda_runtime.h"

namespace wedge::emulator {

inline constexpr std::size_t kReserved = std::size_t{1} << 36;  // addresses, not memory

class Arena {
 public:
  Arena();

  std::byte* allocate(std::size_t bytes);  // null: out of memory
  bool release(void* p);                   // false: not a block
  bool holds(const void* p, std::size_t bytes);
  void check();

  void open();
  void close();
  void set_host_access(bool allowed);

  std::size_t limit = std::size_t{4} << 30, live_bytes = 0;
  std::recursive_mutex mutex;
  cudaError_t last_error = cudaSuccess;

  bool in_range(const void* p) const {
    return static_cast<const std::byte*>(p) >= base_ && static_cast<const std::byte*>(p) < base_ + kReserved;
  }

 private:
  static bool intact(const std::byte* block, std::size_t bytes);
  void protect(bool readable) const;

  std::byte* base_;
  int key_ = -1;
  int depth_ = 0;  // without keys
  bool host_access_ = false;
  std::size_t used_ = 0;                    // prefix that has ever been handed out
  std::map<std::byte*, std::size_t> live_;  // block → bytes
  std::map<std::byte*, std::size_t> free_;  // start of the room → its bytes
  std::size_t fault_ = 0;                   // size of a freed block that was found overwritten
};

// Never destroyed: device memory may be freed at the very end of the process.
Arena& arena();

}  // namespace wedge::emulator
