// Causal attention on tensor cores, forward (kernels/causal_attention.h; Dao 2023, FlashAttention-2): a block
// owns 64 queries of a head and runs over tiles of keys, while the next tile is on its way. Blocks with most
// keys start first. causal_attention_mma.cuh has the tiles and who does what in them.
//
// Exponentials are of base 2, with scale · log2 e as one factor. Rounded to bfloat16 are q, k, v and
// exp(S - m) in front of the product with v; nothing else.
#include "kernels/cuda/causal_attention_mma.cuh"

namespace wedge::cu {
namespace {

using namespace attention_mma;

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, attention_mma::Tile<kWidth>::kBlocks)
    causal_attention_forward_mma_kernel(Sizes n, const T* qkv, Result<T> o, float* lse) {
  using Tile = attention_mma::Tile<kWidth>;
  using Streamed = RowsInFlight<T, kWidth, Tile::kStreamed>;
  constexpr int kScores = Tile::kStreamed / 8, kColumns = kWidth / 8;
  BFloat16* const shared = dynamic_shared<BFloat16>();  // [2][k, v]

  const std::int64_t heads = gridDim.x / n.tiles;
  const Work work = work_at(n, n.tiles - 1 - blockIdx.x / heads, blockIdx.x % heads);
  const Head head(n, work);
  const int L = head.L, own = static_cast<int>(work.first) + warp_row();
  const int end = min(static_cast<int>(work.first) + kOwn, L);
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
      const int beyond = own + lane_row() - first - lane_column();
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
    const int query = own + lane_row() + 8 * h;
    if (query < L && lane_column() == 0) lse[head.stats + query] = kLn2 * (m[h] + log2f(l[h]));
  }
  store_own<kWidth>(sums, factor, o, head.o + own * head.D, head.D, L - own, false);
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
           4 * attention_mma::Tile<kWidth>::kElements * sizeof(BFloat16), exec.stream, n, args.qkv,
           Result<T>{args.o, args.o_rounded}, args.lse);
  });
}

template bool causal_attention_forward_mma<float>(const Exec&, const CausalAttentionForward<float>&);
template bool causal_attention_forward_mma<BFloat16>(const Exec&, const CausalAttentionForward<BFloat16>&);

}  // namespace wedge::cu
