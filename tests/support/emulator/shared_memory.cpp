#include "shared_memory.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "emulator.h"
#include "tensor/check.h"

namespace wedge::emulator {
namespace {

constexpr std::size_t kAlignment = 128;
constexpr std::size_t kArrays = 64;
constexpr std::size_t kRoom = SharedMemory::kMost + kArrays * (2 * kBand + kAlignment);

// Two bytes, over and over: 0xFFA5, a NaN. One more, for bands that start at an odd address.
struct BandPattern {
  unsigned char bytes[2 * kBand + 1];
  constexpr BandPattern() : bytes() {
    for (std::size_t i = 0; i < sizeof bytes; ++i) bytes[i] = i % 2 == 0 ? 0xA5 : 0xFF;
  }
};
constexpr BandPattern kBandPattern;

std::byte* aligned(std::byte* p) {
  const std::size_t beyond = reinterpret_cast<std::uintptr_t>(p) % kAlignment;
  return beyond == 0 ? p : p + (kAlignment - beyond);
}

}  // namespace

// The address decides the byte, so that a band can be compared from any place of it.
void fill_band(void* p, std::size_t bytes) {
  const unsigned char* const pattern = kBandPattern.bytes + reinterpret_cast<std::uintptr_t>(p) % 2;
  for (std::size_t at = 0; at < bytes; at += 2 * kBand)
    std::memcpy(static_cast<unsigned char*>(p) + at, pattern, std::min(bytes - at, 2 * kBand));
}

bool band_intact(const void* p, std::size_t bytes) {
  const unsigned char* const pattern = kBandPattern.bytes + reinterpret_cast<std::uintptr_t>(p) % 2;
  for (std::size_t at = 0; at < bytes; at += 2 * kBand)
    if (std::memcmp(static_cast<const unsigned char*>(p) + at, pattern, std::min(bytes - at, 2 * kBand)) != 0)
      return false;
  return true;
}

SharedMemory::SharedMemory() : memory_(new std::byte[kRoom + kAlignment]) {}

void SharedMemory::begin_block(std::size_t dynamic_bytes) {
  arrays_.clear();
  next_ = memory_.get();
  fixed_bytes_ = 0;
  dynamic_bytes_ = dynamic_bytes;
  if (dynamic_bytes > 0) add(nullptr, dynamic_bytes);
}

void* SharedMemory::add(const void* key, std::size_t bytes) {
  WEDGE_CHECK(arrays_.size() < kArrays, "more than {} shared arrays", kArrays);
  std::byte* const data = aligned(next_ + kBand);
  std::byte* const end = data + bytes + kBand;
  fill_band(next_, static_cast<std::size_t>(data - next_));
  std::memset(data, 0xFF, bytes);
  fill_band(data + bytes, kBand);
  arrays_.push_back({key, data, bytes, end});
  next_ = end;
  return data;
}

void* SharedMemory::fixed(const void* key, std::size_t bytes) {
  for (const Array& array : arrays_)
    if (array.key == key) return array.data;
  fixed_bytes_ += bytes;
  WEDGE_CHECK(fixed_bytes_ <= kMostFixed && fixed_bytes_ + dynamic_bytes_ <= most,
              "{} bytes of fixed and {} bytes of dynamic shared memory are more than a block can have",
              fixed_bytes_, dynamic_bytes_);
  return add(key, bytes);
}

void* SharedMemory::dynamic() const {
  WEDGE_CHECK(dynamic_bytes_ > 0, "the launch asked for no dynamic shared memory");
  return arrays_[0].data;
}

bool SharedMemory::holds(const void* p, std::size_t bytes) const {
  const auto* const at = static_cast<const std::byte*>(p);
  return std::any_of(arrays_.begin(), arrays_.end(), [&](const Array& array) {
    return at >= array.data && at + bytes <= array.data + array.bytes;
  });
}

void SharedMemory::check() const {
  const std::byte* begin = memory_.get();
  for (const Array& array : arrays_) {
    const bool before = band_intact(begin, static_cast<std::size_t>(array.data - begin));
    WEDGE_CHECK(before && band_intact(array.data + array.bytes, kBand),
                "{} shared array of {} bytes was written {} its bounds",
                array.key == nullptr ? "the dynamic" : "a", array.bytes, before ? "beyond" : "before");
    begin = array.end;
  }
}

void set_shared_memory(std::size_t bytes) {
  WEDGE_CHECK(bytes <= SharedMemory::kMost, "emulator: at most {} bytes of shared memory",
              SharedMemory::kMost);
  SharedMemory::most = bytes;
}

}  // namespace wedge::emulator
