// The positions 0 .. T-1 of ids in [0, V), ordered by id and, where ids are equal, by position.
//
// T is at most 2^30: places are int.
//
// Layout: up to kRankedRows a warp takes four ids and counts those that come before each, all T of them,
// which is their place: T² comparisons, 1.7e7 at most, but no step waits for another, so it can be a part of
// another kernel's launch (rank_ids).
// More are a radix sort from the lowest digit of 8 bits up, two launches a digit, as many digits as V has.
// Tiles of 1,024 ids, larger ones where there would be more than 128 of them, are a block each. `count`
// counts the tile's digits. `scatter` adds up all tiles' counts, which says where the tile's ids of a digit
// start; a warp, which owns neighbours, then goes through its own 32 at a time, and the lanes with the same
// digit take places in order. Integer counts alone are added atomically, so their order shows nowhere. Bytes
// a digit: 12 to 24 T, and 1 KiB of counts a tile, read by every block.
#pragma once

#include "kernels/cuda/common.cuh"

namespace wedge::cu {

struct IdAt {
  std::int32_t id, t;
};

inline constexpr std::int64_t kRankedRows = 4096;

namespace id_sort {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBits = 8;
constexpr int kDigits = 1 << kBits;
static_assert(kDigits == kThreads, "a thread is a digit");
constexpr int kTile = 1024;
constexpr int kMostTiles = 128;
constexpr int kRanked = 4;  // ids that a warp ranks
constexpr int kRankedByBlock = kWarps * kRanked;

// Where `block` of as many as kRankedByBlock asks for writes its ids. `aligned`: ids may be read 16 bytes at
// a time.
static __device__ void rank_ids(int block, int rows, const std::int32_t* ids, bool aligned, IdAt* sorted) {
  WEDGE_SHARED(std::int32_t, all, kRankedRows);  // no id is more than what stands beyond the last
  const int lane = lane_of_warp(), warp = static_cast<int>(threadIdx.x) / kWarp;
  using Four = Pack<std::int32_t, 4>;
  static_assert(kRankedRows % (4 * kThreads) == 0);
  WEDGE_UNROLL
  for (int turn = 0; turn < kRankedRows / (4 * kThreads); ++turn) {
    const int at = (turn * kThreads + static_cast<int>(threadIdx.x)) * 4;
    Four four{{INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX}};
    if (aligned && at + 4 <= rows) {
      four = *reinterpret_cast<const Four*>(ids + at);
    } else {
      WEDGE_UNROLL
      for (int c = 0; c < 4; ++c)
        if (at + c < rows) four.v[c] = ids[at + c];
    }
    *reinterpret_cast<Four*>(all + at) = four;
  }
  __syncthreads();

  const int first = block * kRankedByBlock + warp * kRanked;
  if (first >= rows) return;
  const Four own = *reinterpret_cast<const Four*>(all + first);
  unsigned before[kRanked] = {};
  for (int at = lane * 4; at < rows; at += kWarp * 4) {
    const Four four = *reinterpret_cast<const Four*>(all + at);
    // Equal ids count where they stand before; those within the four that are ranked are counted below.
    const unsigned equal = at < first ? 1 : 0;
    WEDGE_UNROLL
    for (int j = 0; j < kRanked; ++j) {
      const unsigned bound = static_cast<unsigned>(own.v[j]) + equal;
      // Neither is negative, so the difference's sign says which is less: two instructions.
      WEDGE_UNROLL
      for (int c = 0; c < 4; ++c) before[j] += (static_cast<unsigned>(four.v[c]) - bound) >> 31;
    }
  }
  WEDGE_UNROLL
  for (int j = 0; j < kRanked; ++j) {
    int place = static_cast<int>(warp_sum(before[j]));
    WEDGE_UNROLL
    for (int i = 0; i < j; ++i) place += own.v[i] == own.v[j] ? 1 : 0;
    if (lane == j && first + j < rows) sorted[place] = {own.v[j], first + j};
  }
}
static_assert(kRanked == 4, "a lane's four ids are the ranked ones, or none of them");

static __global__ void __launch_bounds__(kThreads)
    rank_ids_kernel(int rows, const std::int32_t* ids, bool aligned, IdAt* sorted) {
  rank_ids(static_cast<int>(blockIdx.x), rows, ids, aligned, sorted);
}

// What a pass sorts: ids as they come, or what the pass before made of them.
struct Keys {
  const std::int32_t* ids;
  const IdAt* sorted;  // instead, unless null
  int count, tile;     // all keys, and a block's
  int shift;           // of the digit

  __device__ IdAt at(int i) const { return sorted != nullptr ? sorted[i] : IdAt{ids[i], i}; }
  __device__ int digit(const IdAt& key) const { return key.id >> shift & (kDigits - 1); }
  // A warp's keys: first, first + 32, ... below end.
  __device__ int first() const {
    return static_cast<int>(blockIdx.x) * tile + static_cast<int>(threadIdx.x) / kWarp * (tile / kWarps);
  }
  __device__ int end() const {
    const int end = first() + tile / kWarps;
    return end < count ? end : count;
  }
};

static __global__ void __launch_bounds__(kThreads) sort_ids_count_kernel(Keys keys, int* counts) {
  WEDGE_SHARED(int, own, kDigits);
  const int thread = static_cast<int>(threadIdx.x);
  own[thread] = 0;
  __syncthreads();
  for (int i = keys.first() + thread % kWarp; i < keys.end(); i += kWarp)
    atomicAdd(&own[keys.digit(keys.at(i))], 1);
  __syncthreads();
  counts[static_cast<int>(blockIdx.x) * kDigits + thread] = own[thread];
}

// counts [tiles, digits]
static __global__ void __launch_bounds__(kThreads)
    sort_ids_scatter_kernel(Keys keys, const int* counts, IdAt* to) {
  WEDGE_SHARED(int, places, kWarps* kDigits);  // first of a warp's keys of a digit, later the next
  WEDGE_SHARED(int, totals, kWarps);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  for (int w = 0; w < kWarps; ++w) places[w * kDigits + thread] = 0;
  __syncthreads();
  int* const own = places + warp * kDigits;
  for (int i = keys.first() + lane; i < keys.end(); i += kWarp) atomicAdd(&own[keys.digit(keys.at(i))], 1);

  // This thread's digit: how many keys have a lower one, and those of them that stand in tiles before.
  int total = 0, before = 0;
  for (int tile = 0; tile < static_cast<int>(gridDim.x); ++tile) {
    const int count = counts[tile * kDigits + thread];
    total += count;
    before += tile < static_cast<int>(blockIdx.x) ? count : 0;
  }
  int upto = total;
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int other = __shfl_up_sync(kAllLanes, upto, offset);
    upto += lane >= offset ? other : 0;
  }
  if (lane == kWarp - 1) totals[warp] = upto;
  __syncthreads();
  int place = upto - total + before;
  for (int w = 0; w < warp; ++w) place += totals[w];
  for (int w = 0; w < kWarps; ++w) {
    const int count = places[w * kDigits + thread];
    places[w * kDigits + thread] = place;
    place += count;
  }
  __syncthreads();

  for (int start = keys.first(); start < keys.end(); start += kWarp) {
    const bool here = start + lane < keys.end();
    const IdAt key = here ? keys.at(start + lane) : IdAt{};
    const int digit = keys.digit(key);
    unsigned same = __ballot_sync(kAllLanes, here);
    for (int bit = 0; bit < kBits; ++bit) {
      const bool set = (digit >> bit & 1) != 0;
      const unsigned with = __ballot_sync(kAllLanes, set);
      same &= set ? with : ~with;
    }
    const int rank = __popc(same & ((1u << lane) - 1));
    if (here) to[own[digit] + rank] = key;
    __syncwarp();
    if (here && rank == 0) own[digit] += __popc(same);
    __syncwarp();
  }
}

}  // namespace id_sort

// Working memory and the launches.
class SortedIds {
 public:
  SortedIds(const Exec& exec, std::int64_t rows, std::int64_t V, const std::int32_t* ids)
      : sorted_{Scratch<IdAt>(rows), Scratch<IdAt>(rows > kRankedRows ? rows : 0)}, data_(sorted_[0].data()) {
    using namespace id_sort;
    if (rows <= kRankedRows) {
      launch("rank_ids", rank_ids_kernel, blocks_for(rows, kRankedByBlock), kThreads, 0, exec.stream,
             static_cast<int>(rows), ids, all_aligned(16, ids), sorted_[0].data());
      return;
    }
    constexpr int kStep = kWarps * kWarp;
    const int count = static_cast<int>(rows);
    const int tile =
        count <= kMostTiles * kTile ? kTile : static_cast<int>(blocks_for(count, kMostTiles * kStep)) * kStep;
    const unsigned tiles = blocks_for(count, tile);
    const Scratch<int> counts(static_cast<std::int64_t>(tiles) * kDigits);
    const IdAt* from = nullptr;
    for (int shift = 0; shift == 0 || (shift < 32 && (V - 1) >> shift != 0); shift += kBits) {
      const Keys keys{ids, from, count, tile, shift};
      launch("sort_ids_count", sort_ids_count_kernel, tiles, kThreads, 0, exec.stream, keys, counts.data());
      launch("sort_ids_scatter", sort_ids_scatter_kernel, tiles, kThreads, 0, exec.stream, keys,
             counts.data(), sorted_[shift / kBits % 2].data());
      from = sorted_[shift / kBits % 2].data();
    }
    data_ = from;
  }

  const IdAt* data() const { return data_; }  // [rows]

 private:
  Scratch<IdAt> sorted_[2];
  const IdAt* data_;
};

}  // namespace wedge::cu
