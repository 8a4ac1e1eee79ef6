// Causal attention on tensor cores, backward (kernels/causal_attention.h; Dao 2023, FlashAttention-2), in one
// launch. A warp owns 16 keys or 16 queries and adds up, over steps of 16 rows of the other side,
//
//   keys     dv = Σ pᵀ do,  dk = scale · Σ dsᵀ q        p = exp(scale · q kᵀ - lse)
//   queries  dq = scale · Σ ds k                        ds = p ∘ (do vᵀ - delta),  delta = rowsum(do ∘ o)
//
// so each output has one owner that adds in order of rows, and scores are made twice. Two kernels:
//
//   resident  sequences whose q, k, v and do fit into shared memory: a block owns a head, reads everything
//             once, and has one barrier. A warp's keys and queries together always see the same number of
//             rows
//   streamed  longer ones: a block owns 64 keys or 64 queries, and the next tile of the other side is on its
//             way meanwhile. Blocks with most to see start first
//
// delta is made where rows of do are read: that spares a launch, and memory of its own.
//
// Exponentials are of base 2, with scale · log2 e as one factor. Rounded to bfloat16 are q, k, v, do (in
// delta, too, so that a row of dS still sums to 0), P and dS; nothing else.
#include "kernels/cuda/causal_attention_mma.cuh"

namespace wedge::cu {
namespace {

using namespace attention_mma;

// What arrives together, kRows rows: x and y, which are q and do, with lse and delta, or k and v.
template <class T, int kWidth, bool kQueries, int kRows = kChunk, int kBlock = kThreads>
struct Arrival {
  using Rows = RowsInFlight<T, kWidth, kRows, kBlock>;

  // Where it comes from: this thread's parts of the rows that arrive next.
  struct Source {
    const T *x, *y, *o;
    const float* lse;
    int x_stride, y_stride, left;

    // x_rows ...: those of the head. Starts with row `first` of L.
    __device__ Source(const T* x_rows, int x_stride_, const T* y_rows, int y_stride_, const T* o_rows,
                      const float* lse_rows, int first, int L)
        : x(Rows::start(x_rows + first * x_stride_, x_stride_)),
          y(Rows::start(y_rows + first * y_stride_, y_stride_)),
          o(Rows::start(o_rows + first * y_stride_, y_stride_)),
          lse(lse_rows + first + threadIdx.x),
          x_stride(x_stride_),
          y_stride(y_stride_),
          left(L - first) {}
  };

  Rows x, y, o;
  float lse;  // the first kRows threads' own

  __device__ void load(Source& from) {
    x.load(from.x, from.x_stride, from.left);
    y.load(from.y, from.y_stride, from.left);
    from.x += kRows * from.x_stride;
    from.y += kRows * from.y_stride;
    if constexpr (kQueries) {
      o.load(from.o, from.y_stride, from.left);
      from.o += kRows * from.y_stride;
      const auto row = static_cast<int>(threadIdx.x);
      lse = row < kRows && row < from.left ? *from.lse : 0;
      from.lse += kRows;
    }
    from.left -= kRows;
  }
  // To rows `row`, ... in shared memory.
  __device__ void store(const Arrived<kWidth>& to, int row) const {
    x.store(to.x + row * Tile<kWidth>::kPitch);
    y.store(to.y + row * Tile<kWidth>::kPitch);
    if constexpr (kQueries) {
      if (threadIdx.x < kRows) to.lse[row + threadIdx.x] = kLog2E * lse;
      WEDGE_UNROLL
      for (int k = 0; k < Rows::kEach; ++k)
        if (Rows::mine(k)) {
          float delta = o.x[k].dot(y.x[k].rounded());
          WEDGE_UNROLL
          for (int offset = Rows::kAcross / 2; offset > 0; offset /= 2)
            delta += __shfl_xor_sync(kAllLanes, delta, offset);
          if (Rows::column() == 0) to.delta[row + Rows::row(k)] = delta;
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

  // To the 16 rows of [dq | dk | dv] from dq_rows on.
  template <class T>
  __device__ void store(T* dq_rows, const Head& head, int left, float scale, bool add_to) const {
    store_own<kWidth>(dx, {scale, scale}, dq_rows + (kOwnsKeys ? head.D : 0), head.stride, left, add_to);
    if constexpr (kOwnsKeys) store_own<kWidth>(dy, {1, 1}, dq_rows + 2 * head.D, head.stride, left, add_to);
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
__device__ void backward_of_rows(const Sizes& n, const Work& work, const T* qkv, const T* o, const float* lse,
                                 const T* dout, T* dqkv, bool add) {
  using Tile = attention_mma::Tile<kWidth>;
  using Step = Arrival<T, kWidth, kOwnsKeys>;
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
  const int begin = kOwnsKeys ? block : 0, end = kOwnsKeys ? L : min(block + kOwn, L);
  typename Step::Source source(kOwnsKeys ? q_rows : k_rows, head.stride, kOwnsKeys ? dout_rows : v_rows,
                               kOwnsKeys ? head.D : head.stride, o + head.o, lse, begin, L);

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
      if (query < L) sums.lse[h] = kLog2E * lse[query];
      WEDGE_UNROLL
      for (int step = 0; step < Tile::kSteps; ++step) {
        std::uint32_t words[4];
        b.fragment(step, words);
        WEDGE_UNROLL
        for (int half = 0; half < 2; ++half) {
          if (query >= L) continue;
          const Pair d = unpack_bf16(words[2 * half + h]);
          const Pair out = load_pair(o + head.o + query * head.D + step * 16 + half * 8 + lane_column());
          sums.delta[h] += d.low * out.low + d.high * out.high;
        }
      }
      sums.delta[h] = sum_across(sums.delta[h]);
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
  sums.store(dqkv + head.qkv + own * head.stride, head, left, n.scale, add);
}

// Blocks of keys and of queries take turns, from those that see most of the other side to those that see
// least.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, attention_mma::Tile<kWidth>::kBlocks)
    causal_attention_backward_streamed_kernel(Sizes n, const T* qkv, const T* o, const float* lse,
                                              const T* dout, T* dqkv, bool add) {
  const std::int64_t heads = gridDim.x / (2 * n.tiles), at = blockIdx.x % heads, turn = blockIdx.x / heads;
  if (turn % 2 == 0)
    backward_of_rows<true, T, kWidth>(n, work_at(n, turn / 2, at), qkv, o, lse, dout, dqkv, add);
  else
    backward_of_rows<false, T, kWidth>(n, work_at(n, n.tiles - 1 - turn / 2, at), qkv, o, lse, dout, dqkv,
                                       add);
}

// A sequence in shared memory: [q, do, lse, delta], then [k, v], whose statistics nobody reads.
template <int kWidth>
struct Resident {
  static constexpr int kThreads = 256, kWarps = kThreads / kWarp;
  static constexpr int kMaxRows = kWidth <= 64 ? 256 : 128;  // at most 150 KB
  static constexpr int kBlocks = kWidth == 32 ? 2 : 1;       // that registers must leave room for
  static constexpr int kRead = kOwn;                         // rows read at a time
  static constexpr int kRows = kThreads / (kWidth / 8);      // of them by every thread once

  static constexpr int kBytesOfRow = Arrived<kWidth>::kBytesOfRow + Arrived<kWidth>::kOperandsOfRow;
};

template <bool kOwnsKeys, int kWidth, class T>
__device__ void resident_rows(const Sizes& n, const Head& head, const Arrived<kWidth>& queries,
                              const Arrived<kWidth>& keys, int own, T* dqkv, bool add) {
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
  sums.store(dqkv + head.qkv + own * head.stride, head, head.L - own, n.scale, add);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(Resident<kWidth>::kThreads, Resident<kWidth>::kBlocks)
    causal_attention_backward_resident_kernel(Sizes n, const T* qkv, const T* o, const float* lse,
                                              const T* dout, T* dqkv, bool add) {
  using Resident = Resident<kWidth>;
  using Queries = Arrival<T, kWidth, true, Resident::kRows, Resident::kThreads>;
  using Keys = Arrival<T, kWidth, false, Resident::kRows, Resident::kThreads>;
  constexpr int kTogether = Resident::kRead / Resident::kRows;
  const int rows = n.tiles * Resident::kRead;
  auto* const shared = dynamic_shared<unsigned char>();
  const Arrived<kWidth> queries(shared, rows), keys(shared + rows * Arrived<kWidth>::kBytesOfRow, rows);

  const Head head(n, work_at(n, 0, blockIdx.x));
  const T *const q_rows = qkv + head.qkv, *const k_rows = q_rows + head.D;
  typename Queries::Source from_queries(q_rows, head.stride, dout + head.o, head.D, o + head.o,
                                        lse + head.stats, 0, head.L);
  typename Keys::Source from_keys(k_rows, head.stride, k_rows + head.D, head.stride, nullptr, nullptr, 0,
                                  head.L);
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
  for (int own = warp_row(); own < head.L; own += Resident::kWarps * kChunk) {
    resident_rows<true, kWidth>(n, head, queries, keys, own, dqkv, add);
    resident_rows<false, kWidth>(n, head, queries, keys, own, dqkv, add);
  }
}

}  // namespace

template <class T>
bool causal_attention_backward_mma(const Exec& exec, const CausalAttentionBackward<T>& args) {
  if (!fits(args, args.qkv, args.o, args.dout, args.dqkv)) return false;
  return with_mma_width(args.D / args.H, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    const Sizes n = sizes_of(args);
    const auto go = [&](const char* name, auto* kernel, std::int64_t blocks, int threads, int bytes) {
      launch(name, kernel, blocks_for(blocks, 1), threads, bytes, exec.stream, n, args.qkv, args.o, args.lse,
             args.dout, args.dqkv, args.dqkv_add);
    };
    const int rows = n.tiles * kOwn;
    if (rows <= Resident<kWidth>::kMaxRows)
      go("causal_attention_backward_resident", causal_attention_backward_resident_kernel<T, kWidth>,
         args.B * args.H, Resident<kWidth>::kThreads, rows * Resident<kWidth>::kBytesOfRow);
    else
      go("causal_attention_backward_streamed", causal_attention_backward_streamed_kernel<T, kWidth>,
         2 * n.tiles * args.B * args.H, kThreads, StreamedMemory<kWidth>::kBytes);
  });
}

template bool causal_attention_backward_mma<float>(const Exec&, const CausalAttentionBackward<float>&);
template bool causal_attention_backward_mma<BFloat16>(const Exec&, const CausalAttentionBackward<BFloat16>&);

}  // namespace wedge::cu
