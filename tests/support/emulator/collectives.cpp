// Barriers and warp collectives: who must arrive, and what they do once all have.
#include <bit>

#include "cuda_runtime.h"
#include "machine.h"
#include "tensor/check.h"

namespace wedge::emulator {

void Machine::barrier(const Place& place) {
  WEDGE_CHECK(current_ != nullptr, "emulator: {} outside a kernel", place.text());
  if (at_barrier_ == 0) barrier_ = place;
  WEDGE_CHECK(barrier_ == place, "threads of the block wait at different barriers, {} and {}",
              barrier_.text(), place.text());
  if (++at_barrier_ == count_) {
    at_barrier_ = 0;
    make_all_ready();
  }
  wait(place);
}

void Machine::collective(const Collective& what, unsigned mask, void* record, const Place& place) {
  WEDGE_CHECK(current_ != nullptr, "emulator: {} outside a kernel", place.text());
  const unsigned n = number(*current_), w = n / kWarp, self = 1u << n % kWarp;
  Thread* const lanes = &threads_[w * kWarp];
  Warp& warp = warps_[w];
  WEDGE_CHECK((mask & self) != 0, "{}: the mask {:#010x} lacks the lane that calls, {}", place.text(), mask,
              n % kWarp);
  WEDGE_CHECK(count_ - w * kWarp >= kWarp || mask >> (count_ - w * kWarp) == 0,
              "{}: the mask {:#010x} names lanes that the block does not have", place.text(), mask);
  unsigned& arrived = warp.arrived[std::countr_zero(mask)];
  const unsigned others = warp.waiting & mask;
  if (others != 0) {
    const Thread& first = lanes[std::countr_zero(others)];
    WEDGE_CHECK(others == arrived && first.mask == mask && first.waits_at == place,
                "lanes of a warp wait for each other in different places: {} with mask {:#010x} and {} with "
                "mask {:#010x}",
                first.waits_at.text(), first.mask, place.text(), mask);
  }
  arrived |= self;
  warp.waiting |= self;
  current_->record = record;
  current_->mask = mask;
  if (arrived == mask) {
    arrived = 0;
    warp.waiting &= ~mask;
    void* records[kWarp];
    for (unsigned i = 0; i < kWarp; ++i) records[i] = (mask >> i & 1) != 0 ? lanes[i].record : nullptr;
    what.complete(records, mask);
    make_ready(w, mask);
  }
  wait(place);
}

void barrier(const char* file, int line) {
  machine().barrier({"__syncthreads", file, line});
}
void collective(const Collective& what, unsigned mask, void* record, const char* file, int line) {
  machine().collective(what, mask, record, {what.name, file, line});
}

// The rules of PTX's shfl: the warp is cut into segments of `width` lanes; who would read beyond its segment
// keeps its own value, except that a butterfly may read a lower segment.
void complete_shuffle(void* const* records, unsigned mask) {
  for (int lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    auto& own = *static_cast<ShuffleRecord*>(records[lane]);
    WEDGE_CHECK(own.width == 1 || own.width == 2 || own.width == 4 || own.width == 8 || own.width == 16 ||
                    own.width == 32,
                "a shuffle's width must be a power of two up to 32, got {}", own.width);
    const int first = lane & ~(own.width - 1), last = first + own.width - 1, by = own.operand & 31;
    int source = lane;
    switch (own.how) {
      case Shuffle::index:
        source = first + (own.operand & (own.width - 1));
        break;
      case Shuffle::up:
        source = lane - by < first ? lane : lane - by;
        break;
      case Shuffle::down:
        source = lane + by > last ? lane : lane + by;
        break;
      case Shuffle::butterfly:
        source = (lane ^ by) > last ? lane : lane ^ by;
        break;
    }
    WEDGE_CHECK((mask >> source & 1) != 0,
                "a shuffle in lane {} reads lane {}, which is not in its mask {:#010x}", lane, source, mask);
    own.result = static_cast<const ShuffleRecord*>(records[source])->value;
  }
}

void complete_vote(void* const* records, unsigned mask) {
  unsigned ballot = 0;
  for (int lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0 && static_cast<const VoteRecord*>(records[lane])->value) ballot |= 1u << lane;
  for (int lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0) static_cast<VoteRecord*>(records[lane])->ballot = ballot;
}

}  // namespace wedge::emulator
