// causal_attention_backward_mma.cuh for sequences whose q, k, v and do fit into shared memory, in one launch.
//
// Layout: a block owns a head, reads everything once, makes delta on the way and has one barrier. All warps
// have the same work, since their 16 keys and their 16 queries together always see the same number of rows.
#include "kernels/cuda/causal_attention_backward_mma.cuh"

namespace wedge::cu {
namespace attention_mma {
namespace {

// A sequence in shared memory: [q, do, lse, delta], then [k, v], whose statistics nobody reads.
template <int kWidth>
struct Resident {
  static constexpr int kThreads = 256, kWarps = kThreads / kWarp;
  static constexpr int kMaxRows = kWidth <= 64 ? 256 : 128;  // at most 150 KB
  static constexpr int kBlocks = kWidth == 32 ? 2 : 1;       // that registers must leave room for
  static constexpr int kRead = kOwn;                         // rows read at a time
  static constexpr int kRowsOfWarps = kWarps * kChunk;       // owned at a time
  static constexpr int kRows = kThreads / (kWidth / 8);      // of them by every thread once

  static constexpr int kBytesOfRow = Arrived<kWidth>::kBytesOfRow + Arrived<kWidth>::kOperandsOfRow;
  static constexpr std::size_t kBytesOfSums = kWarps * 3 * kWidth * sizeof(float);
};

template <bool kOwnsKeys, int kWidth, class T>
__device__ void resident_rows(const Sizes& n, const Head& head, const Arrived<kWidth>& queries,
                              const Arrived<kWidth>& keys, int own, const Result<T>& dqkv, bool add,
                              float* columns) {
  const auto &mine = kOwnsKeys ? keys : queries, &others = kOwnsKeys ? queries : keys;
  // Sums for dk and dv of 128 columns leave no registers for k and v.
  constexpr bool kInRegisters = kWidth <= 64 || !kOwnsKeys;
  const ResidentRows<kWidth, kInRegisters> a(mine.x + own * Tile<kWidth>::kPitch);
  const ResidentRows<kWidth, kInRegisters> b(mine.y + own * Tile<kWidth>::kPitch);
  Gathered<kOwnsKeys, kWidth> sums;
  if constexpr (!kOwnsKeys) {
    WEDGE_UNROLL
    for (int h = 0; h < 2; ++h) {
      sums.lse[h] = queries.lse[own + lane_row() + 8 * h];
      sums.delta[h] = queries.delta[own + lane_row() + 8 * h];
    }
  }
  const int begin = kOwnsKeys ? own : 0, end = kOwnsKeys ? head.L : own + kChunk;
  for (int row = begin; row < end; row += kChunk)
    sums.add(a, b, others, row, kOwnsKeys ? row - own : own - row, n.scale * kLog2E);
  sums.store(dqkv, head.qkv + own * head.stride, head, head.L - own, n.scale, add);
  if (columns != nullptr) sums.sum(columns, head.L - own, n.scale);
}

// With `partials` [B, 3 D] a block leaves the sums over its sequence of what it makes of dq, dk and dv.
template <class T, int kWidth>
__global__ void __launch_bounds__(Resident<kWidth>::kThreads, Resident<kWidth>::kBlocks)
    causal_attention_backward_resident_kernel(Sizes n, const T* qkv, const T* o, const float* lse,
                                              const T* dout, Result<T> dqkv, bool add, float* partials) {
  using Resident = Resident<kWidth>;
  using Queries = Arrival<T, kWidth, Rows::queries_with_o, Resident::kRows, Resident::kThreads>;
  using Keys = Arrival<T, kWidth, Rows::keys, Resident::kRows, Resident::kThreads>;
  constexpr int kTogether = Resident::kRead / Resident::kRows;
  const int rows = n.tiles * Resident::kRead;
  auto* const shared = dynamic_shared<unsigned char>();
  const Arrived<kWidth> queries(shared, rows), keys(shared + rows * Arrived<kWidth>::kBytesOfRow, rows);

  const Head head(n, work_at(n, 0, blockIdx.x));
  const T *const q_rows = qkv + head.qkv, *const k_rows = q_rows + head.D;
  typename Queries::Source from_queries(q_rows, head.stride, dout + head.o, head.D, o + head.o,
                                        lse + head.stats, nullptr, 0, head.L);
  typename Keys::Source from_keys(k_rows, head.stride, k_rows + head.D, head.stride, nullptr, nullptr,
                                  nullptr, 0, head.L);
  for (int first = 0; first < rows; first += Resident::kRead) {
    Queries more_queries[kTogether];
    Keys more_keys[kTogether];
    WEDGE_UNROLL
    for (int k = 0; k < kTogether; ++k) {
      more_queries[k].load(from_queries);
      more_keys[k].load(from_keys);
    }
    WEDGE_UNROLL
    for (int k = 0; k < kTogether; ++k) {
      more_queries[k].store(queries, first + k * Resident::kRows);
      more_keys[k].store(keys, first + k * Resident::kRows);
    }
  }
  __syncthreads();
  constexpr int kColumns = 3 * kWidth;
  WEDGE_SHARED(float, columns, Resident::kWarps* kColumns);
  float* const mine = partials != nullptr ? columns + threadIdx.x / kWarp * kColumns : nullptr;
  if (partials != nullptr) {
    for (int i = lane(); i < kColumns; i += kWarp) mine[i] = 0;
    __syncwarp();
  }
  for (int own = warp_row(); own < head.L; own += Resident::kRowsOfWarps) {
    resident_rows<true, kWidth>(n, head, queries, keys, own, dqkv, add, mine);
    resident_rows<false, kWidth>(n, head, queries, keys, own, dqkv, add, mine);
  }
  if (partials == nullptr) return;
  __syncthreads();
  const Work work = work_at(n, 0, blockIdx.x);
  for (int i = static_cast<int>(threadIdx.x); i < kColumns; i += Resident::kThreads) {
    float total = 0;
    for (int warp = 0; warp < Resident::kWarps; ++warp) total += columns[warp * kColumns + i];
    partials[work.batch * head.stride + i / kWidth * head.D + work.head * kWidth + i % kWidth] = total;
  }
}

// Whether a sequence stays in shared memory.
template <int kWidth>
bool is_resident(const Sizes& n) {
  const int rows = n.tiles * kOwn;
  return rows <= Resident<kWidth>::kMaxRows &&
         static_cast<std::size_t>(rows * Resident<kWidth>::kBytesOfRow) + Resident<kWidth>::kBytesOfSums <=
             shared_bytes_of_block();
}

}  // namespace

template <class T>
bool backward_of_resident(const Exec& exec, const CausalAttentionBackward<T>& args) {
  bool done = false;
  with_mma_width(args.D / args.H, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    const Sizes n = sizes_of(args);
    if (!is_resident<kWidth>(n)) return;
    launch("causal_attention_backward_resident", causal_attention_backward_resident_kernel<T, kWidth>,
           blocks_for(args.B * args.H, 1), Resident<kWidth>::kThreads,
           n.tiles * kOwn * Resident<kWidth>::kBytesOfRow, exec.stream, n, args.qkv, args.o, args.lse,
           args.dout, Result<T>{args.dqkv.data, args.dqkv_rounded}, args.dqkv.add, args.dqkv_sums);
    done = true;
  });
  return done;
}

template bool backward_of_resident(const Exec&, const CausalAttentionBackward<float>&);
template bool backward_of_resident(const Exec&, const CausalAttentionBackward<BFloat16>&);

}  // namespace attention_mma

template <class T>
std::int64_t causal_attention_backward_pieces_mma(const CausalAttentionBackward<T>& args) {
  using namespace attention_mma;
  bool sums = false;
  if (!args.dqkv.add && fits(args, args.qkv, args.o, args.dout, args.dqkv.data))
    with_mma_width(args.D / args.H,
                   [&](auto width) { sums = is_resident<decltype(width)::value>(sizes_of(args)); });
  return sums ? args.B : 0;
}

template std::int64_t causal_attention_backward_pieces_mma(const CausalAttentionBackward<float>&);
template std::int64_t causal_attention_backward_pieces_mma(const CausalAttentionBackward<BFloat16>&);

}  // namespace wedge::cu
