// Reference-counted memory from a caching allocator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tensor/device.h"

namespace wedge {

struct BlockCache;

// A block of bytes, 64-byte aligned, not initialised. Blocks come from and return to a cache of their device,
// because a training step asks for the same sizes again and again and fresh pages cost more than the
// arithmetic on them.
class Storage {
 public:
  Storage(std::size_t bytes, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  // Counts changes in place, so that backward can refuse a saved tensor that is no longer what forward saw.
  std::uint32_t version() const { return version_; }
  void bump_version() { ++version_; }

  // A bfloat16 copy of this block's values: the version of the block that it was made from, and the capture
  // whose replays make it (tensor/cuda/graph.h), 0 if it was made outside of one. `values` may outlive the
  // block (Bf16Copy::values).
  struct Rounded {
    std::shared_ptr<Storage> values;
    std::uint32_t version = 0;
    std::uint64_t capture = 0;
  };
  Rounded& rounded() { return rounded_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t capacity_ = 0;
  Device device_;
  bool guarded_ = false;
  std::uint32_t version_ = 0;
  std::shared_ptr<BlockCache> home_;  // null: the device's
  Rounded rounded_;
};

// GPU memory set apart for work that will be repeated at the same addresses (tensor/cuda/graph.h): nobody
// else is handed what that work writes to.
class MemoryPool {
 public:
  // Where blocks come from that it does not have yet: what others have freed, or the driver. Fresh ones may
  // be used on a stream of their own.
  enum class Blocks { freed_by_others, fresh };

  explicit MemoryPool(Blocks first = Blocks::freed_by_others);
  // Gives its blocks to the device's cache.
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // While one lives, this thread's new blocks on the GPU are the pool's, and return to it whenever they are
  // freed. In one scope make either what you keep or what a replay makes, not both.
  class Scope {
   public:
    explicit Scope(const MemoryPool& pool);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    std::shared_ptr<BlockCache> previous_;
  };

 private:
  std::shared_ptr<BlockCache> cache_;
};

// Test mode: new blocks are filled with NaN and get sentinel bands on both sides. `check_guards` throws
// wedge::Error when a band of a live block was overwritten; a block checks its own when it is freed and
// remembers the first fault.
void set_guard_bands(bool on);
void check_guards();

// Bytes held by live tensors now, and the most there have been since the last reset.
std::size_t allocated_bytes(Device device = Device::cpu);
std::size_t peak_allocated_bytes(Device device = Device::cpu);
void reset_peak_allocated_bytes(Device device = Device::cpu);

// Gives cached blocks back to the system.
void release_cached_memory();

}  // namespace wedge
