// causal_attention_backward_mma.cuh for sequences that do not stay in shared memory, after a launch for
// delta.
//
// Layout: a block owns 64 keys or 64 queries, and the next tile of the other side is on its way meanwhile.
// Blocks with most to see start first.
#include "kernels/cuda/causal_attention_backward_mma.cuh"

namespace wedge::cu {
namespace {

using namespace attention_mma;

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

}  // namespace

template <class T>
bool causal_attention_backward_mma(const Exec& exec, const CausalAttentionBackward<T>& args) {
  if (!fits(args, args.qkv, args.o, args.dout, args.dqkv.data)) return false;
  if (backward_of_resident(exec, args)) return true;
  return with_mma_width(args.D / args.H, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    const Sizes n = sizes_of(args);
    const Scratch<float> delta(args.B * args.H * args.L);
    attention::launch_delta(exec, n, args, true, delta.data());
    launch("causal_attention_backward_streamed", causal_attention_backward_streamed_kernel<T, kWidth>,
           blocks_for(2 * n.tiles * args.B * args.H, 1), kThreads, StreamedMemory<kWidth>::kBytes,
           exec.stream, n, args.qkv, args.lse, delta.data(), args.dout,
           Result<T>{args.dqkv.data, args.dqkv_rounded}, args.dqkv.add);
  });
}

template bool causal_attention_backward_mma<float>(const Exec&, const CausalAttentionBackward<float>&);
template bool causal_attention_backward_mma<BFloat16>(const Exec&, const CausalAttentionBackward<BFloat16>&);

}  // namespace wedge::cu
