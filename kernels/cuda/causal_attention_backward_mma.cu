// Causal attention on tensor cores, backward (kernels/causal_attention.h; Dao 2023, FlashAttention-2). A warp
// owns 16 keys or 16 queries and adds up, over steps of 16 rows of the other side,
//
//   keys     dv = Σ pᵀ do,  dk = scale · Σ dsᵀ q        p = exp(scale · q kᵀ - lse)
//   queries  dq = scale · Σ ds k                        ds = p ∘ (do vᵀ - delta),  delta = rowsum(do ∘ o)
//
// so each output has one owner that adds in order of rows, and scores are made twice. Two ways:
//
//   resident  sequences whose q, k, v and do fit into shared memory, in one launch: a block owns a
//             head, reads everything once, makes delta on the way and has one barrier. All warps have the
//             same work, since their 16 keys and their 16 queries together always see the same number of rows
//   streamed  longer ones, and where a block cannot have that much of it, after a launch for delta: a block
//             owns 64 keys or 64 queries, and the next tile of the other side is on its way meanwhile. Blocks
//             with most to see start first
//
// Exponentials are of base 2, with scale · log2 e as one factor. Rounded to bfloat16 are q, k, v, do (in
// delta, too, so that a row of dS still sums to 0), P and dS; nothing else.
#include "kernels/cuda/causal_attention_mma.cuh"

namespace wedge::cu {
namespace {

using namespace attention_mma;

// Rows that arrive together, as x and y: k and v; or q and do, with lse and with delta, which is read or made
// from o.
enum class Rows { keys, queries, queries_with_o };

template <class T, int kWidth, Rows kWhat, int kRows = kChunk, int kBlock = kThreads>
struct Arrival {
  using InFlight = RowsInFlight<T, kWidth, kRows, kBlock>;

  // Where they come from: this thread's parts of those that arrive next.
  struct Source {
    const T *x, *y, *o;
    const float *lse, *delta;
    int x_stride, y_stride, left;

    // x_rows ...: those of the head. Starts with row `first` of L.
    __device__ Source(const T* x_rows, int x_stride_, const T* y_rows, int y_stride_, const T* o_rows,
                      const float* lse_rows, const float* delta_rows, int first, int L)
        : x(InFlight::start(x_rows + first * x_stride_, x_stride_)),
          y(InFlight::start(y_rows + first * y_stride_, y_stride_)),
          o(InFlight::start(o_rows + first * y_stride_, y_stride_)),
          lse(lse_rows + first + threadIdx.x),
          delta(delta_rows + first + threadIdx.x),
          x_stride(x_stride_),
          y_stride(y_stride_),
          left(L - first) {}
  };

  InFlight x, y, o;
  float lse, delta;  // the first kRows threads' own

  __device__ void load(Source& from) {
    const auto row = static_cast<int>(threadIdx.x);
    const bool exists = row < kRows && row < from.left;
    x.load(from.x, from.x_stride, from.left);
    y.load(from.y, from.y_stride, from.left);
    from.x += kRows * from.x_stride;
    from.y += kRows * from.y_stride;
    if constexpr (kWhat != Rows::keys) {
      lse = exists ? *from.lse : 0;
      from.lse += kRows;
    }
    if constexpr (kWhat == Rows::queries) {
      delta = exists ? *from.delta : 0;
      from.delta += kRows;
    }
    if constexpr (kWhat == Rows::queries_with_o) {
      o.load(from.o, from.y_stride, from.left);
      from.o += kRows * from.y_stride;
    }
    from.left -= kRows;
  }
  // To rows `row`, ... in shared memory.
  __device__ void store(const Arrived<kWidth>& to, int row) const {
    x.store(to.x + row * Tile<kWidth>::kPitch);
    y.store(to.y + row * Tile<kWidth>::kPitch);
    if constexpr (kWhat != Rows::keys)
      if (threadIdx.x < kRows) to.lse[row + threadIdx.x] = kLog2E * lse;
    if constexpr (kWhat == Rows::queries)
      if (threadIdx.x < kRows) to.delta[row + threadIdx.x] = delta;
    if constexpr (kWhat == Rows::queries_with_o) {
      WEDGE_UNROLL
      for (int k = 0; k < InFlight::kEach; ++k)
        if (InFlight::mine(k)) {
          float sum = o.x[k].dot(y.x[k].rounded());
          WEDGE_UNROLL
          for (int offset = InFlight::kAcross / 2; offset > 0; offset /= 2)
            sum += __shfl_xor_sync(kAllLanes, sum, offset);
          if (InFlight::column() == 0) to.delta[row + InFlight::row(k)] = sum;
        }
    }
  }
};

// What 16 keys or queries have gathered so far: dx = Σ dS x and, of keys, dy = Σ P y.
template <bool kOwnsKeys, int kWidth>
struct Gathered {
  static constexpr int kSteps = Tile<kWidth>::kSteps, kColumns = kWidth / 8;

  float dx[kColumns][4] = {}, dy[kOwnsKeys ? kColumns : 1][4] = {};
  float lse[2] = {}, delta[2] = {};  // of own queries

  // Of 16 rows of x and y, which are `row`, ... of `from`: with the own k, v (or q, do) as a, b,
  //   P = exp(scale · a xᵀ - lse),  dS = P ∘ (b yᵀ - delta)
  // both transposed for keys; lse and delta belong to the query. `beyond` is how far the first query is
  // beyond the first key: 0 on the diagonal. `scale` has the factor log2 e.
  template <class A, class B>
  __device__ void add(const A& a, const B& b, const Arrived<kWidth>& from, int row, int beyond, float scale) {
    const BFloat16* const x = from.x + row * Tile<kWidth>::kPitch;
    const BFloat16* const y = from.y + row * Tile<kWidth>::kPitch;
    float ax[2][4] = {}, by[2][4] = {};
    WEDGE_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      std::uint32_t words[4], rows[4];
      load_rows_transposed<kWidth>(x, step, rows);
      a.fragment(step, words);
      mma_m16n8k16_bf16(ax[0], words, rows);
      mma_m16n8k16_bf16(ax[1], words, rows + 2);
      load_rows_transposed<kWidth>(y, step, rows);
      b.fragment(step, words);
      mma_m16n8k16_bf16(by[0], words, rows);
      mma_m16n8k16_bf16(by[1], words, rows + 2);
    }
    constexpr int kSign = kOwnsKeys ? 1 : -1;
    const int beyond_here = beyond + kSign * (lane_column() - lane_row());
    WEDGE_UNROLL
    for (int c = 0; c < 2; ++c) {
      Pair lse_c{}, delta_c{};
      if constexpr (kOwnsKeys) {
        lse_c = load_pair(from.lse + row + 8 * c + lane_column());
        delta_c = load_pair(from.delta + row + 8 * c + lane_column());
      }
      WEDGE_UNROLL
      for (int e = 0; e < 4; ++e) {
        const float lse_e = !kOwnsKeys ? lse[e / 2] : e % 2 == 0 ? lse_c.low : lse_c.high;
        const float delta_e = !kOwnsKeys ? delta[e / 2] : e % 2 == 0 ? delta_c.low : delta_c.high;
        const bool visible = beyond_here + kSign * (8 * c + e % 2 - e / 2 * 8) >= 0;
        const float p = visible ? exp2_approx(scale * ax[c][e] - lse_e) : 0.0f;
        by[c][e] = p * (by[c][e] - delta_e);
        ax[c][e] = p;
      }
    }
    std::uint32_t ds[4], p[4];
    pack_fragment(by[0], by[1], ds);
    if constexpr (kOwnsKeys) pack_fragment(ax[0], ax[1], p);
    WEDGE_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      std::uint32_t rows[4];
      load_rows<kWidth>(x, step, rows);
      mma_m16n8k16_bf16(dx[2 * step], ds, rows);
      mma_m16n8k16_bf16(dx[2 * step + 1], ds, rows + 2);
      if constexpr (kOwnsKeys) {
        load_rows<kWidth>(y, step, rows);
        mma_m16n8k16_bf16(dy[2 * step], p, rows);
        mma_m16n8k16_bf16(dy[2 * step + 1], p, rows + 2);
      }
    }
  }

  // To the 16 rows of [dq | dk | dv] from element `first` on.
  template <class T>
  __device__ void store(const Result<T>& dqkv, std::int64_t first, const Head& head, int left, float scale,
                        bool add_to) const {
    store_own<kWidth>(dx, {scale, scale}, dqkv, first + (kOwnsKeys ? head.D : 0), head.stride, left, add_to);
    if constexpr (kOwnsKeys)
      store_own<kWidth>(dy, {1, 1}, dqkv, first + 2 * head.D, head.stride, left, add_to);
  }

  // columns[3, kWidth] of the warp += their sums over the 16 rows, dq's in the first row.
  __device__ void sum(float* columns, int left, float scale) const {
    sum_own<kWidth>(dx, scale, left, columns + (kOwnsKeys ? kWidth : 0));
    if constexpr (kOwnsKeys) sum_own<kWidth>(dy, 1, left, columns + 2 * kWidth);
  }
};

// Shared memory of a block of `streamed`, whatever it owns.
template <int kWidth>
struct StreamedMemory {
  // Sums for dk and dv leave registers for k and v, for k or for neither.
  using OwnKeys = OwnRows<kWidth, kWidth <= 64>;
  using OwnValues = OwnRows<kWidth, kWidth <= 32>;

  static constexpr int kTile = Tile<kWidth>::kStreamed * Arrived<kWidth>::kBytesOfRow;
  static constexpr int kBytes = 2 * kTile + (OwnKeys::kSharedWords + OwnValues::kSharedWords) * 16;
};

// dk and dv of 64 keys, or dq of 64 queries.
template <bool kOwnsKeys, class T, int kWidth>
__device__ void streamed_rows(const Sizes& n, const Work& work, const T* qkv, const float* lse,
                              const float* delta, const T* dout, const Result<T>& dqkv, bool add) {
  using Tile = attention_mma::Tile<kWidth>;
  using Step = Arrival<T, kWidth, kOwnsKeys ? Rows::queries : Rows::keys>;
  using Memory = StreamedMemory<kWidth>;
  using OwnA = std::conditional_t<kOwnsKeys, typename Memory::OwnKeys, OwnRows<kWidth, true>>;
  using OwnB = std::conditional_t<kOwnsKeys, typename Memory::OwnValues, OwnRows<kWidth, true>>;
  auto* const shared = dynamic_shared<unsigned char>();
  auto* const own_shared = reinterpret_cast<uint4*>(shared + 2 * Memory::kTile);

  const Head head(n, work);
  const int L = head.L, block = static_cast<int>(work.first), own = block + warp_row(), left = L - own;
  const T *const q_rows = qkv + head.qkv, *const k_rows = q_rows + head.D, *const v_rows = k_rows + head.D;
  const T* const dout_rows = dout + head.o;
  lse += head.stats;
  delta += head.stats;
  const int begin = kOwnsKeys ? block : 0, end = kOwnsKeys ? L : min(block + kOwn, L);
  typename Step::Source source(kOwnsKeys ? q_rows : k_rows, head.stride, kOwnsKeys ? dout_rows : v_rows,
                               kOwnsKeys ? head.D : head.stride, nullptr, lse, delta, begin, L);

  OwnA a(own_shared);
  OwnB b(own_shared + OwnA::kSharedWords);
  a.load((kOwnsKeys ? k_rows : q_rows) + own * head.stride, head.stride, left);
  {
    Step steps[Tile::kChunks];
    WEDGE_UNROLL
    for (int c = 0; c < Tile::kChunks; ++c) steps[c].load(source);
    WEDGE_UNROLL
    for (int c = 0; c < Tile::kChunks; ++c)
      steps[c].store(Arrived<kWidth>(shared, Tile::kStreamed), c * kChunk);
  }
  Gathered<kOwnsKeys, kWidth> sums;
  if constexpr (kOwnsKeys) {
    b.load(v_rows + own * head.stride, head.stride, left);
  } else {
    b.load(dout_rows + own * head.D, head.D, left);
    WEDGE_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int query = own + lane_row() + 8 * h;
      if (query < L) {
        sums.lse[h] = kLog2E * lse[query];
        sums.delta[h] = delta[query];
      }
    }
  }

  int buffer = 0;
  for (int first = begin; first < end; first += Tile::kStreamed, buffer ^= 1) {
    __syncthreads();
    const Arrived<kWidth> tile(shared + buffer * Memory::kTile, Tile::kStreamed);
    const Arrived<kWidth> other(shared + (buffer ^ 1) * Memory::kTile, Tile::kStreamed);
    const bool more = first + Tile::kStreamed < end;
    for (int row = 0; row < Tile::kStreamed; row += kChunk) {
      Step next;
      if (more) next.load(source);
      const int beyond = kOwnsKeys ? first + row - own : own - first - row;
      if (beyond >= 0 && first + row < end) sums.add(a, b, tile, row, beyond, n.scale * kLog2E);
      if (more) next.store(other, row);
    }
  }
  sums.store(dqkv, head.qkv + own * head.stride, head, left, n.scale, add);
}

// Blocks of keys and of queries take turns, from those that see most of the other side to those that see
// least.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, attention_mma::Tile<kWidth>::kBlocks)
    causal_attention_backward_streamed_kernel(Sizes n, const T* qkv, const float* lse, const float* delta,
                                              const T* dout, Result<T> dqkv, bool add) {
  const std::int64_t heads = gridDim.x / (2 * n.tiles), at = blockIdx.x % heads, turn = blockIdx.x / heads;
  if (turn % 2 == 0)
    streamed_rows<true, T, kWidth>(n, work_at(n, turn / 2, at), qkv, lse, delta, dout, dqkv, add);
  else
    streamed_rows<false, T, kWidth>(n, work_at(n, n.tiles - 1 - turn / 2, at), qkv, lse, delta, dout, dqkv,
                                    add);
}

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
std::int64_t causal_attention_backward_pieces_mma(const CausalAttentionBackward<T>& args) {
  bool sums = false;
  if (!args.dqkv_add && fits(args, args.qkv, args.o, args.dout, args.dqkv))
    with_mma_width(args.D / args.H,
                   [&](auto width) { sums = is_resident<decltype(width)::value>(sizes_of(args)); });
  return sums ? args.B : 0;
}

template <class T>
bool causal_attention_backward_mma(const Exec& exec, const CausalAttentionBackward<T>& args) {
  if (!fits(args, args.qkv, args.o, args.dout, args.dqkv)) return false;
  return with_mma_width(args.D / args.H, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    const Sizes n = sizes_of(args);
    if (is_resident<kWidth>(n)) {
      launch("causal_attention_backward_resident", causal_attention_backward_resident_kernel<T, kWidth>,
             blocks_for(args.B * args.H, 1), Resident<kWidth>::kThreads,
             n.tiles * kOwn * Resident<kWidth>::kBytesOfRow, exec.stream, n, args.qkv, args.o, args.lse,
             args.dout, Result<T>{args.dqkv, args.dqkv_rounded}, args.dqkv_add, args.dqkv_sums);
    } else {
      const Scratch<float> delta(args.B * args.H * args.L);
      attention::launch_delta(exec, n, args, true, delta.data());
      launch("causal_attention_backward_streamed", causal_attention_backward_streamed_kernel<T, kWidth>,
             blocks_for(2 * n.tiles * args.B * args.H, 1), kThreads, StreamedMemory<kWidth>::kBytes,
             exec.stream, n, args.qkv, args.lse, delta.data(), args.dout,
             Result<T>{args.dqkv, args.dqkv_rounded}, args.dqkv_add);
    }
  });
}

template std::int64_t causal_attention_backward_pieces_mma(const CausalAttentionBackward<float>&);
template std::int64_t causal_attention_backward_pieces_mma(const CausalAttentionBackward<BFloat16>&);
template bool causal_attention_backward_mma<float>(const Exec&, const CausalAttentionBackward<float>&);
template bool causal_attention_backward_mma<BFloat16>(const Exec&, const CausalAttentionBackward<BFloat16>&);

}  // namespace wedge::cu
