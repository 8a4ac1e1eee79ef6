#include "tensor/storage.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "tensor/check.h"
#include "tensor/cuda/gpu.h"
#include "tensor/round_up.h"

namespace wedge {

// Freed blocks by capacity.
struct BlockCache {
  std::map<std::size_t, std::vector<std::byte*>> free;
  bool closed = false;  // of a pool that is gone: blocks that are freed now go to the device's
  bool alone = false;   // takes no blocks of the device's

  std::byte* take(std::size_t capacity) {
    const auto it = free.find(capacity);
    if (it == free.end() || it->second.empty()) return nullptr;
    std::byte* const block = it->second.back();
    it->second.pop_back();
    return block;
  }
};

namespace {

constexpr std::size_t kAlignment = 64;
[[maybe_unused]] constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kBand = 256;
constexpr unsigned char kSentinel = 0xA5;
constexpr Device kDevices[] = {Device::cpu, Device::cuda};

// Sizes are rounded to eighths of a power of two: at most 12.5 % is wasted and near-equal sizes share a
// block.
std::size_t block_size(std::size_t bytes) {
  std::size_t step = kAlignment;
  while (step * 16 <= bytes) step *= 2;
  return std::max(kAlignment, round_up(bytes, step));
}

// The blocks of one device. On the GPU a freed one may be handed out again at once: what still reads it comes
// before what will write it in the one stream that they are used on (cuda/side_stream.h has its own).
struct Pool {
  std::mutex mutex;  // of the caches of memory pools too
  BlockCache cache;
  std::set<const Storage*> guarded;
  bool guard_bands = false;
  const char* fault = nullptr;
  std::size_t live = 0, peak = 0;
};

// Never destroyed: tensors with static lifetime may be freed after it otherwise.
Pool& pool(Device device) {
  static Pool* const instances = new Pool[2];
  return instances[device == Device::cuda ? 1 : 0];
}

std::byte* allocate_block(std::size_t capacity, Device device) {
  if constexpr (kWithCuda)
    if (device == Device::cuda) return cu::allocate(capacity);
  std::size_t alignment = kAlignment;
#ifdef MADV_HUGEPAGE
  // Large blocks in pages of 2 MB: translations for each 4 KB would not fit their cache. That costs up to 2
  // MB a block of addresses, not of memory.
  const bool huge = capacity >= 2 * kHugePage;
  if (huge) alignment = kHugePage;
#endif
  void* p = nullptr;
  const int error = ::posix_memalign(&p, alignment, capacity);
  WEDGE_CHECK(error == 0, "storage: out of memory, {} bytes asked for", capacity);
#ifdef MADV_HUGEPAGE
  if (huge) ::madvise(p, capacity / kHugePage * kHugePage, MADV_HUGEPAGE);  // a wish: no matter if refused
#endif
  return static_cast<std::byte*>(p);
}

void release_block(std::byte* block, Device device) {
  if constexpr (kWithCuda)
    if (device == Device::cuda) return cu::release(block);
  std::free(block);
}

void set_bytes(std::byte* to, unsigned char value, std::size_t bytes, Device device) {
  if constexpr (kWithCuda)
    if (device == Device::cuda) return cu::fill_bytes(to, value, bytes);
  std::memset(to, value, bytes);
}

bool band_intact(const std::byte* band, Device device) {
  std::byte copy[kBand];
  if constexpr (kWithCuda) {
    if (device == Device::cuda) {
      cu::copy_bytes(copy, Device::cpu, band, device, kBand);
      band = copy;
    }
  }
  return std::all_of(band, band + kBand, [](std::byte b) { return b == std::byte{kSentinel}; });
}

bool bands_intact(const Storage& s) {
  return band_intact(s.data() - kBand, s.device()) && band_intact(s.data() + s.bytes(), s.device());
}

void release_free_blocks(Pool& p, Device device) {
  for (auto& [capacity, blocks] : p.cache.free)
    for (std::byte* block : blocks) release_block(block, device);
  const bool any = !p.cache.free.empty();
  p.cache.free.clear();
  if constexpr (kWithCuda)
    if (any && device == Device::cuda) cu::trim();
}

thread_local std::shared_ptr<BlockCache> t_set_apart;  // of the scope that this thread is in

// A block that was freed before, of `home` if there is one, else a new one, if need be of the memory of all
// freed ones.
std::byte* take_block(Pool& p, BlockCache* home, std::size_t capacity, Device device) {
  if (home != nullptr)
    if (std::byte* const block = home->take(capacity)) return block;
  if (home == nullptr || !home->alone)
    if (std::byte* const block = p.cache.take(capacity)) return block;
  try {
    return allocate_block(capacity, device);
  } catch (const Error&) {
    if constexpr (kWithCuda)
      if (device == Device::cuda && cu::is_capturing()) throw;  // nothing can be released now
    release_free_blocks(p, device);
    return allocate_block(capacity, device);
  }
}

}  // namespace

Storage::Storage(std::size_t bytes, Device device) : bytes_(bytes), device_(device) {
  WEDGE_CHECK(kWithCuda || device == Device::cpu, "storage: this build has no {} device", name_of(device));
  Pool& p = pool(device);
  const std::scoped_lock lock(p.mutex);
  guarded_ = p.guard_bands;
  capacity_ = block_size(bytes + (guarded_ ? 2 * kBand : 0));
  if (device == Device::cuda) home_ = t_set_apart;
  std::byte* const block = take_block(p, home_.get(), capacity_, device);
  data_ = guarded_ ? block + kBand : block;
  if (guarded_) {
    set_bytes(block, kSentinel, kBand, device);
    set_bytes(data_, 0xFF, bytes, device);  // all ones is a NaN in every floating type
    set_bytes(data_ + bytes, kSentinel, kBand, device);
    p.guarded.insert(this);
  }
  p.live += capacity_;
  p.peak = std::max(p.peak, p.live);
}

Storage::~Storage() {
  Pool& p = pool(device_);
  const std::scoped_lock lock(p.mutex);
  if (guarded_) {
    try {
      if (!bands_intact(*this) && p.fault == nullptr)
        p.fault = "a freed block was written outside its bounds";
    } catch (const Error&) {
      p.fault = "a freed block could not be read";
    }
    p.guarded.erase(this);
  }
  BlockCache& home = home_ != nullptr && !home_->closed ? *home_ : p.cache;
  home.free[capacity_].push_back(guarded_ ? data_ - kBand : data_);
  p.live -= capacity_;
}

MemoryPool::MemoryPool(Blocks first) : cache_(std::make_shared<BlockCache>()) {
  cache_->alone = first == Blocks::fresh;
}

MemoryPool::~MemoryPool() {
  Pool& p = pool(Device::cuda);
  const std::scoped_lock lock(p.mutex);
  cache_->closed = true;
  for (auto& [capacity, blocks] : cache_->free) {
    auto& all = p.cache.free[capacity];
    all.insert(all.end(), blocks.begin(), blocks.end());
  }
  cache_->free.clear();
}

MemoryPool::Scope::Scope(const MemoryPool& pool) : previous_(std::exchange(t_set_apart, pool.cache_)) {}

MemoryPool::Scope::~Scope() {
  t_set_apart = std::move(previous_);
}

void set_guard_bands(bool on) {
  for (const Device device : kDevices) {
    const std::scoped_lock lock(pool(device).mutex);
    pool(device).guard_bands = on;
    pool(device).fault = nullptr;
  }
}

void check_guards() {
  for (const Device device : kDevices) {
    Pool& p = pool(device);
    const std::scoped_lock lock(p.mutex);
    const char* fault = std::exchange(p.fault, nullptr);
    WEDGE_CHECK(fault == nullptr, "storage: {}", fault);
    for (const Storage* s : p.guarded)
      WEDGE_CHECK(bands_intact(*s), "storage: a block of {} bytes was written outside its bounds",
                  s->bytes());
  }
}

std::size_t allocated_bytes(Device device) {
  const std::scoped_lock lock(pool(device).mutex);
  return pool(device).live;
}

std::size_t peak_allocated_bytes(Device device) {
  const std::scoped_lock lock(pool(device).mutex);
  return pool(device).peak;
}

void reset_peak_allocated_bytes(Device device) {
  const std::scoped_lock lock(pool(device).mutex);
  pool(device).peak = pool(device).live;
}

void release_cached_memory() {
  for (const Device device : kDevices) {
    const std::scoped_lock lock(pool(device).mutex);
    release_free_blocks(pool(device), device);
  }
}

}  // namespace wedge
