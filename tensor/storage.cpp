#include "tensor/storage.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "tensor/check.h"

namespace wedge {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kBand = 256;
constexpr unsigned char kSentinel = 0xA5;

// Sizes are rounded to eighths of a power of two: at most 12.5 % is wasted and near-equal sizes share a
// block.
std::size_t round_up(std::size_t bytes) {
  std::size_t step = kAlignment;
  while (step * 16 <= bytes) step *= 2;
  return std::max(kAlignment, (bytes + step - 1) / step * step);
}

struct Pool {
  std::mutex mutex;
  std::map<std::size_t, std::vector<std::byte*>> free;
  std::set<const Storage*> guarded;
  bool guard_bands = false;
  const char* fault = nullptr;
  std::size_t live = 0, peak = 0;
};

// Never destroyed: tensors with static lifetime may be freed after it otherwise.
Pool& pool() {
  static Pool* const instance = new Pool;
  return *instance;
}

bool bands_intact(const Storage& s) {
  const auto is_sentinel = [](std::byte b) { return b == std::byte{kSentinel}; };
  return std::all_of(s.data() - kBand, s.data(), is_sentinel) &&
         std::all_of(s.data() + s.bytes(), s.data() + s.bytes() + kBand, is_sentinel);
}

void release_free_blocks(Pool& p) {
  for (auto& [capacity, blocks] : p.free)
    for (std::byte* block : blocks) std::free(block);
  p.free.clear();
}

std::byte* allocate(Pool& pool, std::size_t capacity) {
  void* p = std::aligned_alloc(kAlignment, capacity);
  if (p == nullptr) {
    release_free_blocks(pool);
    p = std::aligned_alloc(kAlignment, capacity);
  }
  WEDGE_CHECK(p != nullptr, "storage: out of memory, {} bytes asked for", capacity);
  return static_cast<std::byte*>(p);
}

}  // namespace

Storage::Storage(std::size_t bytes, Device device) : bytes_(bytes), device_(device) {
  WEDGE_CHECK(device == Device::cpu, "storage: this build has no {} device", name_of(device));
  Pool& p = pool();
  const std::scoped_lock lock(p.mutex);
  guarded_ = p.guard_bands;
  capacity_ = round_up(bytes + (guarded_ ? 2 * kBand : 0));
  std::byte* block = nullptr;
  if (const auto it = p.free.find(capacity_); it != p.free.end() && !it->second.empty()) {
    block = it->second.back();
    it->second.pop_back();
  } else {
    block = allocate(p, capacity_);
  }
  data_ = guarded_ ? block + kBand : block;
  if (guarded_) {
    std::memset(block, kSentinel, kBand);
    std::memset(data_, 0xFF, bytes);  // all ones is a NaN in every floating type
    std::memset(data_ + bytes, kSentinel, kBand);
    p.guarded.insert(this);
  }
  p.live += capacity_;
  p.peak = std::max(p.peak, p.live);
}

Storage::~Storage() {
  Pool& p = pool();
  const std::scoped_lock lock(p.mutex);
  if (guarded_) {
    if (!bands_intact(*this) && p.fault == nullptr) p.fault = "a freed block was written outside its bounds";
    p.guarded.erase(this);
  }
  p.free[capacity_].push_back(guarded_ ? data_ - kBand : data_);
  p.live -= capacity_;
}

void set_guard_bands(bool on) {
  const std::scoped_lock lock(pool().mutex);
  pool().guard_bands = on;
  pool().fault = nullptr;
}

void check_guards() {
  Pool& p = pool();
  const std::scoped_lock lock(p.mutex);
  const char* fault = std::exchange(p.fault, nullptr);
  WEDGE_CHECK(fault == nullptr, "storage: {}", fault);
  for (const Storage* s : p.guarded)
    WEDGE_CHECK(bands_intact(*s), "storage: a block of {} bytes was written outside its bounds", s->bytes());
}

std::size_t allocated_bytes() {
  const std::scoped_lock lock(pool().mutex);
  return pool().live;
}

std::size_t peak_allocated_bytes() {
  const std::scoped_lock lock(pool().mutex);
  return pool().peak;
}

void reset_peak_allocated_bytes() {
  const std::scoped_lock lock(pool().mutex);
  pool().peak = pool().live;
}

void release_cached_memory() {
  const std::scoped_lock lock(pool().mutex);
  release_free_blocks(pool());
}

}  // namespace wedge
