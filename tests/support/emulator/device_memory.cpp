// Device memory: one range of addresses that host code cannot touch, with guard bands around every block.
// Where the processor has protection keys the range is opened and closed for a few nanoseconds, else by
// mprotect.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "arena.h"
#include "tensor/check.h"
#include "tensor/round_up.h"

namespace wedge::emulator {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kHugePage = std::size_t{1} << 21;

// Bytes that a block takes of the arena, bands included.
std::size_t room(std::size_t bytes) {
  return round_up(bytes + 2 * kBand, kAlignment);
}

#if defined(__linux__) && defined(__x86_64__)
constexpr bool kMayHaveKeys = true;
int new_key() {
  return pkey_alloc(0, PKEY_DISABLE_ACCESS);
}
bool set_key(void* p, std::size_t bytes, int key) {
  return pkey_mprotect(p, bytes, PROT_READ | PROT_WRITE, key) == 0;
}
void open_key(int key, bool open) {
  pkey_set(key, open ? 0 : PKEY_DISABLE_ACCESS);
}
#else
constexpr bool kMayHaveKeys = false;
int new_key() {
  return -1;
}
bool set_key(void*, std::size_t, int) {
  return false;
}
void open_key(int, bool) {}
#endif

thread_local int open_depth = 0;  // with keys, whose state is the thread's

}  // namespace

Arena& arena() {
  static Arena* const instance = new Arena;
  return *instance;
}

Arena::Arena() {
  void* const p = mmap(nullptr, kReserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  WEDGE_CHECK(p != MAP_FAILED, "emulator: no room for device memory");
  base_ = static_cast<std::byte*>(p);
  // WEDGE_EMULATOR_MPROTECT: as on a processor without keys, for tests.
  if (kMayHaveKeys && std::getenv("WEDGE_EMULATOR_MPROTECT") == nullptr) key_ = new_key();
  if (key_ >= 0 && !set_key(base_, kReserved, key_)) key_ = -1;
  if (key_ < 0) madvise(base_, kReserved, MADV_HUGEPAGE);
}

void Arena::protect(bool readable) const {
  if (used_ > 0) mprotect(base_, round_up(used_, kHugePage), readable ? PROT_READ | PROT_WRITE : PROT_NONE);
}

void Arena::open() {
  if (key_ >= 0) {
    if (open_depth++ == 0) open_key(key_, true);
    return;
  }
  const std::scoped_lock lock(mutex);
  if (depth_++ == 0 && !host_access_) protect(true);
}

void Arena::close() {
  if (key_ >= 0) {
    if (--open_depth == 0) open_key(key_, false);
    return;
  }
  const std::scoped_lock lock(mutex);
  if (--depth_ == 0 && !host_access_) protect(false);
}

void Arena::set_host_access(bool allowed) {
  const std::scoped_lock lock(mutex);
  host_access_ = allowed;
  if (key_ >= 0) {
    set_key(base_, kReserved, allowed ? 0 : key_);
  } else if (depth_ == 0) {
    protect(allowed);
  }
}

std::byte* Arena::allocate(std::size_t bytes) {
  const std::scoped_lock lock(mutex);
  if (bytes > limit || live_bytes > limit - bytes || bytes > kReserved / 2) return nullptr;
  const std::size_t need = room(bytes);
  auto it = std::find_if(free_.begin(), free_.end(), [&](const auto& hole) { return hole.second >= need; });
  std::byte* start;
  if (it != free_.end()) {
    start = it->first;
    const std::size_t left = it->second - need;
    free_.erase(it);
    if (left > 0) free_[start + need] = left;
  } else {
    if (need > kReserved - used_) return nullptr;
    start = base_ + used_;
    used_ += need;
    if (key_ < 0 && (depth_ > 0 || host_access_)) protect(true);
  }
  std::byte* const block = start + kBand;
  const DeviceAccess access;
  fill_band(start, kBand);
  std::memset(block, 0xFF, bytes);
  fill_band(block + bytes, need - kBand - bytes);
  live_[block] = bytes;
  live_bytes += bytes;
  return block;
}

bool Arena::intact(const std::byte* block, std::size_t bytes) {
  return band_intact(block - kBand, kBand) && band_intact(block + bytes, room(bytes) - kBand - bytes);
}

bool Arena::release(void* p) {
  const std::scoped_lock lock(mutex);
  const auto it = live_.find(static_cast<std::byte*>(p));
  if (it == live_.end()) return false;
  const auto [block, bytes] = *it;
  const DeviceAccess access;
  if (fault_ == 0 && !intact(block, bytes)) fault_ = std::max<std::size_t>(bytes, 1);
  std::memset(block, 0xFF, bytes);  // whoever still reads it gets NaN
  live_.erase(it);
  live_bytes -= bytes;
  auto hole = free_.emplace(block - kBand, room(bytes)).first;
  if (const auto next = std::next(hole); next != free_.end() && hole->first + hole->second == next->first) {
    hole->second += next->second;
    free_.erase(next);
  }
  if (hole != free_.begin()) {
    const auto before = std::prev(hole);
    if (before->first + before->second == hole->first) {
      before->second += hole->second;
      free_.erase(hole);
    }
  }
  return true;
}

bool Arena::holds(const void* p, std::size_t bytes) {
  const std::scoped_lock lock(mutex);
  auto* const at = static_cast<std::byte*>(const_cast<void*>(p));
  auto it = live_.upper_bound(at);
  if (it == live_.begin()) return false;
  --it;
  const auto from = static_cast<std::size_t>(at - it->first);
  return from <= it->second && bytes <= it->second - from;
}

void Arena::check() {
  const std::scoped_lock lock(mutex);
  const DeviceAccess access;
  const std::size_t freed = std::exchange(fault_, 0);
  WEDGE_CHECK(freed == 0,
              "emulator: a block of {} bytes of device memory, freed since, was written out of its bounds",
              freed);
  for (const auto& [block, bytes] : live_) {
    if (intact(block, bytes)) continue;
    // Mended, so that each fault is reported once.
    fill_band(block - kBand, kBand);
    fill_band(block + bytes, room(bytes) - kBand - bytes);
    throw Error(
        fmt::format("emulator: a block of {} bytes of device memory was written out of its bounds", bytes));
  }
}

DeviceAccess::DeviceAccess() {
  arena().open();
}
DeviceAccess::~DeviceAccess() {
  arena().close();
}

void check_memory() {
  arena().check();
}
void set_host_access(bool allowed) {
  arena().set_host_access(allowed);
}
void set_device_memory(std::size_t bytes) {
  WEDGE_CHECK(bytes <= kReserved / 2, "emulator: at most {} bytes of device memory", kReserved / 2);
  arena().limit = bytes;
}
bool is_device_memory(const void* p, std::size_t bytes) {
  return arena().holds(p, bytes);
}

// A word of the argument that is a mapped address outside the arena is taken for a pointer to host memory.
// Below 2^36 there are only numbers, and two 32-bit numbers side by side rarely name a mapped page; under
// AddressSanitizer its shadow is mapped up to a little over 2^44, and nothing else is below.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kLowestPointer = 0x10007fff8000;
#else
constexpr std::uint64_t kLowestPointer = std::uint64_t{1} << 36;
#endif

void check_argument(const char* kernel, int position, const void* argument, std::size_t bytes) {
  for (std::size_t at = 0; at + 8 <= bytes; at += 8) {
    std::uint64_t word;
    std::memcpy(&word, static_cast<const std::byte*>(argument) + at, sizeof word);
    if (word < kLowestPointer || word >= std::uint64_t{1} << 48) continue;
    auto* const p = reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(word));
    if (arena().in_range(p)) continue;
    static const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    unsigned char resident;
    const bool mapped =
        mincore(reinterpret_cast<void*>(static_cast<std::uintptr_t>(word / page * page)), 1, &resident) == 0;
    WEDGE_CHECK(!mapped, "emulator: {}: argument {} holds a pointer to host memory, {} bytes from its start",
                kernel, position, at);
  }
}

}  // namespace wedge::emulator
