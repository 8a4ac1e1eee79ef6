// Warp collectives, once all their lanes have arrived.
#include "cuda_runtime.h"
#include "tensor/check.h"

namespace wedge::emulator {

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
