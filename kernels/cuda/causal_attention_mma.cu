// Causal attention on tensor cores (kernels/causal_attention.h; Dao 2023, FlashAttention-2). The equations
// are those of causal_attention.cu; causal_attention_mma.cuh has the tiles and who does what in them.
//
//   forward   owns queries: a block for 64 of them, over tiles of keys; the next tile is read meanwhile
//   backward  one launch, in which a block owns keys (dk, dv) or queries (dq), 64 of them, over steps of 16
//             rows of the other side. delta = rowsum(do ∘ o) is made where rows of do are read, which spares
//             a launch and, at a few hundred positions, costs less than one
//
// Exponentials are of base 2, with scale · log2 e as one factor. Blocks with most work start first. Every
// output has one owner that adds in order of the streamed rows.
//
// Rounded to bfloat16 are q, k, v, do (do in delta, too, so that a row of dS still sums to 0), exp(S - m) in
// front of the product with v, P and dS; nothing else.
#include "kernels/cuda/causal_attention_mma.cuh"

#include <cmath>
#include <cstdint>
#include <type_traits>

namespace wedge::cu {
namespace {

using namespace attention_mma;

// Where a head of a sequence starts: q, with k and v D and 2 D elements further; o and do; statistics.
// Within a sequence, elements are counted in int.
struct Head {
  int L, D, stride;
  std::int64_t qkv, o, stats;

  __device__ Head(const Sizes& n, const Work& work)
      : L(static_cast<int>(n.L)),
        D(static_cast<int>(n.D)),
        stride(3 * D),
        qkv(work.batch * n.L * 3 * n.D + work.head * n.width),
        o(work.batch * n.L * n.D + work.head * n.width),
        stats((work.batch * n.H + work.head) * n.L) {}
};

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, attention_mma::Tile<kWidth>::kBlocks)
    causal_attention_forward_mma_kernel(Sizes n, const T* qkv, T* o, float* lse) {
  using Tile = attention_mma::Tile<kWidth>;
  using Streamed = RowsInFlight<T, kWidth, Tile::kStreamed>;
  constexpr int kScores = Tile::kStreamed / 8, kColumns = kWidth / 8;
  BFloat16* const shared = dynamic_shared<BFloat16>();  // [2][k, v]

  const std::int64_t heads = gridDim.x / n.tiles;
  const Work work = work_at(n, n.tiles - 1 - blockIdx.x / heads, blockIdx.x % heads);
  const Head head(n, work);
  const int L = head.L, own = static_cast<int>(work.first), end = min(own + kOwn, L);
  const T* const q_rows = qkv + head.qkv;

  Streamed k, v;
  const T* next_rows = Streamed::start(q_rows + head.D, head.stride);  // of k, with v D elements further
  k.load(next_rows, head.stride, L);
  v.load(next_rows + head.D, head.stride, L);
  OwnRows<kWidth, true> q(nullptr);
  q.load(q_rows + own * head.stride, head.stride, L - own);
  k.store(shared);
  v.store(shared + Tile::kElements);

  float sums[kColumns][4] = {}, m[2] = {-INFINITY, -INFINITY}, l[2] = {};  // l: this thread's share
  const float scale = n.scale * kLog2E;
  int buffer = 0;
  for (int first = 0; first < end; first += Tile::kStreamed, buffer ^= 1) {
    __syncthreads();
    const int next = first + Tile::kStreamed;
    if (next < end) {
      next_rows += Tile::kStreamed * head.stride;
      k.load(next_rows, head.stride, L - next);
      v.load(next_rows + head.D, head.stride, L - next);
    }
    const BFloat16* const k_tile = shared + 2 * buffer * Tile::kElements;
    const BFloat16* const v_tile = k_tile + Tile::kElements;

    float scores[kScores][4] = {};
    WEDGE_UNROLL
    for (int step = 0; step < Tile::kSteps; ++step) {
      std::uint32_t a[4];
      q.fragment(step, a);
      WEDGE_UNROLL
      for (int c = 0; c < Tile::kChunks; ++c) {
        std::uint32_t b[4];
        load_rows_transposed<kWidth>(k_tile + c * kChunk * Tile::kPitch, step, b);
        mma_m16n8k16_bf16(scores[2 * c], a, b);
        mma_m16n8k16_bf16(scores[2 * c + 1], a, b + 2);
      }
    }
    // Keys beyond L lie beyond every query, too. Every row sees key 0, so m is finite from the first tile on.
    if (next > own) {
      const int beyond = own + own_row() - first - own_column();
      WEDGE_UNROLL
      for (int c = 0; c < kScores; ++c) {
        WEDGE_UNROLL
        for (int e = 0; e < 4; ++e)
          if (beyond < 8 * c + e % 2 - e / 2 * 8) scores[c][e] = -INFINITY;
      }
    }

    WEDGE_UNROLL
    for (int h = 0; h < 2; ++h) {
      float tile_max = -INFINITY;
      WEDGE_UNROLL
      for (int c = 0; c < kScores; ++c)
        tile_max = fmaxf(tile_max, fmaxf(scores[c][2 * h], scores[c][2 * h + 1]));
      const float grown = fmaxf(m[h], scale * max_across(tile_max)), shrink = exp2_approx(m[h] - grown);
      m[h] = grown;
      l[h] *= shrink;
      WEDGE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        sums[c][2 * h] *= shrink;
        sums[c][2 * h + 1] *= shrink;
      }
      WEDGE_UNROLL
      for (int c = 0; c < kScores; ++c) {
        WEDGE_UNROLL
        for (int e = 2 * h; e < 2 * h + 2; ++e) {
          scores[c][e] = exp2_approx(scale * scores[c][e] - grown);
          l[h] += scores[c][e];
        }
      }
    }
    WEDGE_UNROLL
    for (int c = 0; c < Tile::kChunks; ++c) {
      std::uint32_t a[4];
      pack_fragment(scores[2 * c], scores[2 * c + 1], a);
      WEDGE_UNROLL
      for (int step = 0; step < Tile::kSteps; ++step) {
        std::uint32_t b[4];
        load_rows<kWidth>(v_tile + c * kChunk * Tile::kPitch, step, b);
        mma_m16n8k16_bf16(sums[2 * step], a, b);
        mma_m16n8k16_bf16(sums[2 * step + 1], a, b + 2);
      }
    }
    if (next < end) {
      BFloat16* const other = shared + 2 * (buffer ^ 1) * Tile::kElements;
      k.store(other);
      v.store(other + Tile::kElements);
    }
  }

  float factor[2];
  WEDGE_UNROLL
  for (int h = 0; h < 2; ++h) {
    l[h] = sum_across(l[h]);
    factor[h] = 1 / l[h];
    const int query = own + own_row() + 8 * h;
    if (query < L && own_column() == 0) lse[head.stats + query] = kLn2 * (m[h] + log2f(l[h]));
  }
  store_own<kWidth>(sums, factor, o + head.o + own * head.D, head.D, L - own, false);
}

// What backward streams in steps of 16 rows: x and y are q and do, with lse and delta, or k and v.
template <class T, int kWidth, bool kQueries>
struct StreamedStep {
  using Rows = RowsInFlight<T, kWidth, kChunk>;

  // In shared memory: rows of x, rows of y, and then float32 statistics of those rows.
  static constexpr int kStreamed = Tile<kWidth>::kStreamed;
  static constexpr int kBytes = (2 * Tile<kWidth>::kElements) * 2 + 2 * kStreamed * 4;
  struct Buffer {
    BFloat16 *x, *y;
    float *lse, *delta;
    __device__ explicit Buffer(void* shared)
        : x(static_cast<BFloat16*>(shared)),
          y(x + Tile<kWidth>::kElements),
          lse(reinterpret_cast<float*>(y + Tile<kWidth>::kElements)),
          delta(lse + kStreamed) {}
  };

  // In global memory, from the step that is read next: this thread's parts of x, y and o.
  struct Source {
    const T *x, *y, *o;
    const float* lse;
    int x_stride, y_stride, left;

    // x_rows ...: those of the head. Starts with row `first` of L.
    __device__ Source(const T* x_rows, int x_stride_, const T* y_rows, int y_stride_, const T* o_rows,
                      const float* lse_, int first, int L)
        : x(Rows::start(x_rows + first * x_stride_, x_stride_)),
          y(Rows::start(y_rows + first * y_stride_, y_stride_)),
          o(Rows::start(o_rows + first * y_stride_, y_stride_)),
          lse(lse_ + first + threadIdx.x),
          x_stride(x_stride_),
          y_stride(y_stride_),
          left(L - first) {}
  };

  Rows x, y, o;
  float lse;  // the first kChunk threads' own

  __device__ void load(Source& from) {
    x.load(from.x, from.x_stride, from.left);
    y.load(from.y, from.y_stride, from.left);
    from.x += kChunk * from.x_stride;
    from.y += kChunk * from.y_stride;
    if constexpr (kQueries) {
      o.load(from.o, from.y_stride, from.left);
      from.o += kChunk * from.y_stride;
      const auto row = static_cast<int>(threadIdx.x);
      lse = row < kChunk && row < from.left ? *from.lse : 0;
      from.lse += kChunk;
    }
    from.left -= kChunk;
  }
  // To rows `row`, ... of the buffer.
  __device__ void store(const Buffer& to, int row) const {
    x.store(to.x + row * Tile<kWidth>::kPitch);
    y.store(to.y + row * Tile<kWidth>::kPitch);
    if constexpr (kQueries) {
      if (threadIdx.x < kChunk) to.lse[row + threadIdx.x] = kLog2E * lse;
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

// Shared memory of a block of backward, whatever it owns.
template <int kWidth>
struct BackwardMemory {
  // Sums for dk and dv leave registers for k and v, for k or for neither.
  using OwnKeys = OwnRows<kWidth, kWidth <= 64>;
  using OwnValues = OwnRows<kWidth, kWidth <= 32>;

  static constexpr int kBuffers = 2 * StreamedStep<float, kWidth, true>::kBytes;
  static constexpr int kBytes = kBuffers + (OwnKeys::kSharedWords + OwnValues::kSharedWords) * 16;
};

// dk and dv of 64 keys, or dq of 64 queries: with a, b the own k, v (or q, do) and x, y the streamed q, do
// (or k, v), in both cases dS = P ∘ (b yᵀ - delta) with P = exp(scale · a xᵀ - lse), transposed for keys,
// where delta and lse belong to the query. dk (dq) = scale · Σ dS x, dv = Σ P y.
template <bool kOwnsKeys, class T, int kWidth>
__device__ void backward_of_rows(const Sizes& n, const Work& work, const T* qkv, const T* o, const float* lse,
                                 const T* dout, T* dqkv, bool add) {
  using Tile = attention_mma::Tile<kWidth>;
  using Step = StreamedStep<T, kWidth, kOwnsKeys>;
  constexpr int kColumns = kWidth / 8;
  using Memory = BackwardMemory<kWidth>;
  using OwnA = std::conditional_t<kOwnsKeys, typename Memory::OwnKeys, OwnRows<kWidth, true>>;
  using OwnB = std::conditional_t<kOwnsKeys, typename Memory::OwnValues, OwnRows<kWidth, true>>;
  auto* const shared = dynamic_shared<unsigned char>();
  auto* const own_shared = reinterpret_cast<uint4*>(shared + Memory::kBuffers);

  const Head head(n, work);
  const int L = head.L, own = static_cast<int>(work.first), left = L - own;
  const T *const q_rows = qkv + head.qkv, *const k_rows = q_rows + head.D, *const v_rows = k_rows + head.D;
  const T* const dout_rows = dout + head.o;
  lse += head.stats;
  const int begin = kOwnsKeys ? own : 0, end = kOwnsKeys ? L : min(own + kOwn, L);
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
    for (int c = 0; c < Tile::kChunks; ++c) steps[c].store(typename Step::Buffer(shared), c * kChunk);
  }
  float lse_own[2] = {}, delta_own[2] = {};
  if constexpr (kOwnsKeys) {
    b.load(v_rows + own * head.stride, head.stride, left);
  } else {
    b.load(dout_rows + own * head.D, head.D, left);
    WEDGE_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int query = own + own_row() + 8 * h;
      if (query < L) lse_own[h] = kLog2E * lse[query];
      WEDGE_UNROLL
      for (int step = 0; step < Tile::kSteps; ++step) {
        std::uint32_t words[4];
        b.fragment(step, words);
        WEDGE_UNROLL
        for (int half = 0; half < 2; ++half) {
          if (query >= L) continue;
          const Pair d = unpack_bf16(words[2 * half + h]);
          const Pair out = load_pair(o + head.o + query * head.D + step * 16 + half * 8 + own_column());
          delta_own[h] += d.low * out.low + d.high * out.high;
        }
      }
      delta_own[h] = sum_across(delta_own[h]);
    }
  }

  float dx[kColumns][4] = {}, dy[kOwnsKeys ? kColumns : 1][4] = {};
  const float scale = n.scale * kLog2E;
  int buffer = 0;
  for (int first = begin; first < end; first += Tile::kStreamed, buffer ^= 1) {
    __syncthreads();
    const typename Step::Buffer tile(shared + buffer * Step::kBytes);
    const typename Step::Buffer other(shared + (buffer ^ 1) * Step::kBytes);
    const bool more = first + Tile::kStreamed < end;
    for (int row = 0; row < Tile::kStreamed; row += kChunk) {
      Step next;
      if (more) next.load(source);
      // How far the query is beyond the key, of the first own and the first streamed row: 0 on the diagonal.
      const int beyond = kOwnsKeys ? first + row - own - warp_row() : own + warp_row() - first - row;
      if (beyond >= 0 && first + row < end) {
        const BFloat16* const x = tile.x + row * Tile::kPitch;
        const BFloat16* const y = tile.y + row * Tile::kPitch;
        float ax[2][4] = {}, by[2][4] = {};
        WEDGE_UNROLL
        for (int step = 0; step < Tile::kSteps; ++step) {
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
        const int beyond_here = beyond + kSign * (own_column() - lane() / 4);
        WEDGE_UNROLL
        for (int c = 0; c < 2; ++c) {
          Pair lse_c{}, delta_c{};
          if constexpr (kOwnsKeys) {
            lse_c = load_pair(tile.lse + row + 8 * c + own_column());
            delta_c = load_pair(tile.delta + row + 8 * c + own_column());
          }
          WEDGE_UNROLL
          for (int e = 0; e < 4; ++e) {
            const float lse_e = !kOwnsKeys ? lse_own[e / 2] : e % 2 == 0 ? lse_c.low : lse_c.high;
            const float delta_e = !kOwnsKeys ? delta_own[e / 2] : e % 2 == 0 ? delta_c.low : delta_c.high;
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
        for (int step = 0; step < Tile::kSteps; ++step) {
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
      if (more) next.store(other, row);
    }
  }
  T* const to = dqkv + head.qkv + own * head.stride;
  store_own<kWidth>(dx, {n.scale, n.scale}, to + (kOwnsKeys ? head.D : 0), head.stride, left, add);
  if constexpr (kOwnsKeys) store_own<kWidth>(dy, {1, 1}, to + 2 * head.D, head.stride, left, add);
}

// Blocks of keys and of queries take turns, from those that see most of the other side to those that see
// least.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, attention_mma::Tile<kWidth>::kBlocks)
    causal_attention_backward_mma_kernel(Sizes n, const T* qkv, const T* o, const float* lse, const T* dout,
                                         T* dqkv, bool add) {
  const std::int64_t heads = gridDim.x / (2 * n.tiles), at = blockIdx.x % heads, turn = blockIdx.x / heads;
  if (turn % 2 == 0)
    backward_of_rows<true, T, kWidth>(n, work_at(n, turn / 2, at), qkv, o, lse, dout, dqkv, add);
  else
    backward_of_rows<false, T, kWidth>(n, work_at(n, n.tiles - 1 - turn / 2, at), qkv, o, lse, dout, dqkv,
                                       add);
}

// Whether tensors can be read 16 bytes at a time and counted in int.
template <class Args, class... Pointers>
bool fits(const Args& args, const Pointers*... tensors) {
  return ((reinterpret_cast<std::uintptr_t>(tensors) % 16 == 0) && ...) && args.L * args.D < INT32_MAX / 4;
}

// Calls body(kWidth as a type) where there are such tiles; false where not.
template <class Body>
bool with_mma_width(std::int64_t width, const Body& body) {
  if (width == 32)
    body(std::integral_constant<int, 32>());
  else if (width == 64)
    body(std::integral_constant<int, 64>());
  else if (width == 128)
    body(std::integral_constant<int, 128>());
  else
    return false;
  return true;
}

template <class Args>
Sizes sizes_of(const Args& args) {
  const auto width = static_cast<int>(args.D / args.H);
  return {args.L,
          args.H,
          args.D,
          width,
          static_cast<int>(blocks_for(args.L, kOwn)),
          1 / sqrtf(static_cast<float>(width))};
}

}  // namespace

template <class T>
bool causal_attention_forward_mma(const Exec& exec, const CausalAttentionForward<T>& args) {
  if (!fits(args, args.qkv, args.o)) return false;
  return with_mma_width(args.D / args.H, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    const Sizes n = sizes_of(args);
    launch("causal_attention_forward_mma", causal_attention_forward_mma_kernel<T, kWidth>,
           blocks_for(n.tiles * args.B * args.H, 1), kThreads,
           4 * attention_mma::Tile<kWidth>::kElements * sizeof(BFloat16), exec.stream, n, args.qkv, args.o,
           args.lse);
  });
}

template <class T>
bool causal_attention_backward_mma(const Exec& exec, const CausalAttentionBackward<T>& args) {
  if (!fits(args, args.qkv, args.o, args.dout, args.dqkv)) return false;
  return with_mma_width(args.D / args.H, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    const Sizes n = sizes_of(args);
    launch("causal_attention_backward_mma", causal_attention_backward_mma_kernel<T, kWidth>,
           blocks_for(2 * n.tiles * args.B * args.H, 1), kThreads, BackwardMemory<kWidth>::kBytes,
           exec.stream, n, args.qkv, args.o, args.lse, args.dout, args.dqkv, args.dqkv_add);
  });
}

template bool causal_attention_forward_mma<float>(const Exec&, const CausalAttentionForward<float>&);
template bool causal_attention_forward_mma<BFloat16>(const Exec&, const CausalAttentionForward<BFloat16>&);
template bool causal_attention_backward_mma<float>(const Exec&, const CausalAttentionBackward<float>&);
template bool causal_attention_backward_mma<BFloat16>(const Exec&, const CausalAttentionBackward<BFloat16>&);

}  // namespace wedge::cu
