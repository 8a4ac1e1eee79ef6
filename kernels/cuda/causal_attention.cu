// Causal softmax attention in tiles (kernels/causal_attention.h; Dao et al. 2022, FlashAttention): no L × L
// tensor. causal_attention.cuh has the tiles and who does what in them. All of it is float32; where factors
// may be rounded to bfloat16, causal_attention_mma.cu takes the head widths that it has.
//
//   forward  owns queries: s = scale · q kᵀ, running maximum m and sum l of a row, o rescaled when m grows;
//            o = (Σ exp(s - m) v) / l, lse = m + log l
//   delta    rowsum(do ∘ o)
//   dkdv     owns keys: pᵀ = exp(sᵀ - lse), dv = Σ pᵀ do, dsᵀ = scale · pᵀ ∘ (v doᵀ - delta), dk = Σ dsᵀ q
//   dq       owns queries: ds likewise, dq = Σ ds k
//
// So every output has one owner that adds in order of the streamed rows: no atomics, the same bits every
// time. Backward makes the scores twice; besides o, forward leaves lse [B, H, L] for it.
//
// Bytes moved: a tile reads its own rows once and, from L2, the rows of the other side that it sees, half of
// them on average.
#include "kernels/causal_attention.h"

#include <cmath>

#include <string>

#include "kernels/cuda/causal_attention.cuh"
#include "kernels/cuda/causal_attention_mma.cuh"

namespace wedge::cu {
namespace {

using namespace attention;

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    causal_attention_forward_kernel(Sizes n, const T* qkv, T* o, float* lse) {
  using Tile = attention::Tile<kWidth>;
  float* const q = dynamic_shared<float>();
  float* const k = q + Tile::kOwnFloats;
  float* const v = k + Tile::kStreamedFloats;
  float* const weights = v + Tile::kStreamedFloats;

  const Work work = work_of<kWidth>(n, true);  // the longest first
  const std::int64_t stride = 3 * n.D, left = n.L - work.first;
  const T* const base = qkv + work.batch * n.L * stride + work.head * n.width;
  load_rows<kWidth, Tile::kOwn>(base + work.first * stride, stride, left, n.width, q);

  float sums[Tile::kRows][Tile::kColumns], m[Tile::kRows], l[Tile::kRows];  // l: this thread's share
  clear<kWidth>(sums);
  for (int r = 0; r < Tile::kRows; ++r) {
    m[r] = -INFINITY;
    l[r] = 0;
  }
  const std::int64_t end = left < Tile::kOwn ? n.L : work.first + Tile::kOwn;
  for (std::int64_t first = 0; first < end; first += kStreamed) {
    __syncthreads();
    load_rows<kWidth, kStreamed>(base + n.D + first * stride, stride, n.L - first, n.width, k);
    load_rows<kWidth, kStreamed>(base + 2 * n.D + first * stride, stride, n.L - first, n.width, v);
    __syncthreads();
    float scores[Tile::kRows][kEach];
    dot_rows<kWidth>(q, k, scores);
    for (int r = 0; r < Tile::kRows; ++r) {
      // Every row sees key 0, so m is finite from the first tile on. Rows beyond L see the keys there are.
      const std::int64_t query = work.first + own_row(r);
      float tile_max = -INFINITY;
      for (int c = 0; c < kEach; ++c) {
        const std::int64_t key = first + streamed_row(c);
        scores[r][c] = key <= query && key < n.L ? n.scale * scores[r][c] : -INFINITY;
        tile_max = fmaxf(tile_max, scores[r][c]);
      }
      const float grown = fmaxf(m[r], max_across(tile_max)), shrink = expf(m[r] - grown);
      m[r] = grown;
      l[r] *= shrink;
      for (int c = 0; c < Tile::kColumns; ++c) sums[r][c] *= shrink;
      for (int c = 0; c < kEach; ++c) {
        const float weight = expf(scores[r][c] - grown);
        l[r] += weight;
        weights[own_row(r) * kWeightPitch + streamed_row(c)] = weight;
      }
    }
    __syncwarp();
    add_product<kWidth>(weights, v, sums);
  }

  float factor[Tile::kRows];
  for (int r = 0; r < Tile::kRows; ++r) {
    l[r] = sum_across(l[r]);
    factor[r] = 1 / l[r];
    if (own_row(r) < left && threadIdx.x % kAcross == 0)
      lse[(work.batch * n.H + work.head) * n.L + work.first + own_row(r)] = m[r] + logf(l[r]);
  }
  store_rows<kWidth>(sums, factor, o + (work.batch * n.L + work.first) * n.D + work.head * n.width, n.D, left,
                     n.width, false);
}

// The tile of P and dS of own rows against streamed rows, from their dots q·k and do·v.
struct Weights {
  float p, ds;
};
__device__ inline Weights weights_of(float qk, float dov, bool visible, float scale, float lse, float delta) {
  if (!visible) return {0, 0};
  const float p = expf(scale * qk - lse);
  return {p, scale * p * (dov - delta)};
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    causal_attention_dkdv_kernel(Sizes n, const T* qkv, const float* lse, const float* delta, const T* dout,
                                 T* dqkv, bool add) {
  using Tile = attention::Tile<kWidth>;
  float* const k = dynamic_shared<float>();
  float* const v = k + Tile::kOwnFloats;
  float* const q = v + Tile::kOwnFloats;
  float* const d = q + Tile::kStreamedFloats;
  float* const p = d + Tile::kStreamedFloats;
  float* const ds = p + Tile::kWeightFloats;

  const Work work = work_of<kWidth>(n, false);
  const std::int64_t stride = 3 * n.D, left = n.L - work.first, head_at = work.head * n.width;
  const std::int64_t sequence = work.batch * n.L, own_at = (sequence + work.first) * stride + head_at;
  load_rows<kWidth, Tile::kOwn>(qkv + own_at + n.D, stride, left, n.width, k);
  load_rows<kWidth, Tile::kOwn>(qkv + own_at + 2 * n.D, stride, left, n.width, v);
  lse += (work.batch * n.H + work.head) * n.L;
  delta += (work.batch * n.H + work.head) * n.L;

  float dk[Tile::kRows][Tile::kColumns], dv[Tile::kRows][Tile::kColumns], ones[Tile::kRows];
  clear<kWidth>(dk);
  clear<kWidth>(dv);
  for (int r = 0; r < Tile::kRows; ++r) ones[r] = 1;
  for (std::int64_t first = work.first; first < n.L; first += kStreamed) {
    __syncthreads();
    load_rows<kWidth, kStreamed>(qkv + (sequence + first) * stride + head_at, stride, n.L - first, n.width,
                                 q);
    load_rows<kWidth, kStreamed>(dout + (sequence + first) * n.D + head_at, n.D, n.L - first, n.width, d);
    __syncthreads();
    float qk[Tile::kRows][kEach], dov[Tile::kRows][kEach];
    dot_rows<kWidth>(k, q, qk);
    dot_rows<kWidth>(v, d, dov);
    for (int c = 0; c < kEach; ++c) {
      const std::int64_t query = first + streamed_row(c);
      const bool exists = query < n.L;
      const float lse_c = exists ? lse[query] : 0.0f, delta_c = exists ? delta[query] : 0.0f;
      for (int r = 0; r < Tile::kRows; ++r) {
        const bool visible = exists && work.first + own_row(r) <= query;
        const Weights weights = weights_of(qk[r][c], dov[r][c], visible, n.scale, lse_c, delta_c);
        p[own_row(r) * kWeightPitch + streamed_row(c)] = weights.p;
        ds[own_row(r) * kWeightPitch + streamed_row(c)] = weights.ds;
      }
    }
    __syncwarp();
    add_product<kWidth>(p, d, dv);
    add_product<kWidth>(ds, q, dk);
  }
  store_rows<kWidth>(dk, ones, dqkv + own_at + n.D, stride, left, n.width, add);
  store_rows<kWidth>(dv, ones, dqkv + own_at + 2 * n.D, stride, left, n.width, add);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    causal_attention_dq_kernel(Sizes n, const T* qkv, const float* lse, const float* delta, const T* dout,
                               T* dqkv, bool add) {
  using Tile = attention::Tile<kWidth>;
  float* const q = dynamic_shared<float>();
  float* const d = q + Tile::kOwnFloats;
  float* const k = d + Tile::kOwnFloats;
  float* const v = k + Tile::kStreamedFloats;
  float* const ds = v + Tile::kStreamedFloats;

  const Work work = work_of<kWidth>(n, true);
  const std::int64_t stride = 3 * n.D, left = n.L - work.first, head_at = work.head * n.width;
  const std::int64_t sequence = work.batch * n.L, own_at = (sequence + work.first) * stride + head_at;
  load_rows<kWidth, Tile::kOwn>(qkv + own_at, stride, left, n.width, q);
  load_rows<kWidth, Tile::kOwn>(dout + (sequence + work.first) * n.D + head_at, n.D, left, n.width, d);

  float dq[Tile::kRows][Tile::kColumns], ones[Tile::kRows], lse_r[Tile::kRows], delta_r[Tile::kRows];
  clear<kWidth>(dq);
  for (int r = 0; r < Tile::kRows; ++r) {
    const std::int64_t at = (work.batch * n.H + work.head) * n.L + work.first + own_row(r);
    ones[r] = 1;
    lse_r[r] = own_row(r) < left ? lse[at] : 0.0f;
    delta_r[r] = own_row(r) < left ? delta[at] : 0.0f;
  }
  const std::int64_t end = left < Tile::kOwn ? n.L : work.first + Tile::kOwn;
  for (std::int64_t first = 0; first < end; first += kStreamed) {
    __syncthreads();
    const T* const streamed = qkv + (sequence + first) * stride + head_at;
    load_rows<kWidth, kStreamed>(streamed + n.D, stride, n.L - first, n.width, k);
    load_rows<kWidth, kStreamed>(streamed + 2 * n.D, stride, n.L - first, n.width, v);
    __syncthreads();
    float qk[Tile::kRows][kEach], dov[Tile::kRows][kEach];
    dot_rows<kWidth>(q, k, qk);
    dot_rows<kWidth>(d, v, dov);
    for (int r = 0; r < Tile::kRows; ++r)
      for (int c = 0; c < kEach; ++c) {
        const bool visible = own_row(r) < left && first + streamed_row(c) <= work.first + own_row(r);
        ds[own_row(r) * kWeightPitch + streamed_row(c)] =
            weights_of(qk[r][c], dov[r][c], visible, n.scale, lse_r[r], delta_r[r]).ds;
      }
    __syncwarp();
    add_product<kWidth>(ds, k, dq);
  }
  store_rows<kWidth>(dq, ones, dqkv + own_at, stride, left, n.width, add);
}

// Whether factors may be rounded to bfloat16.
template <class T>
bool on_tensor_cores(const Exec& exec) {
  return std::is_same_v<T, BFloat16> || exec.bf16_products;
}

template <class Args>
Sizes sizes_of(const Args& args) {
  const std::int64_t width = args.D / args.H;
  if (width > kMaxWidth)
    fail("causal_attention",
         "expected heads of at most " + std::to_string(kMaxWidth) + " columns, got " + std::to_string(width));
  return {args.L, args.H, args.D, static_cast<int>(width), 0, 1 / sqrtf(static_cast<float>(width))};
}

// Launches a kernel that owns tiles of rows of every head, with `floats` of shared memory.
template <int kWidth, class... Params, class... Args>
void launch_tiles(const char* name, void (*kernel)(Sizes, Params...), Sizes n, std::int64_t heads, int floats,
                  void* stream, const Args&... args) {
  n.tiles = static_cast<int>(blocks_for(n.L, Tile<kWidth>::kOwn));
  launch(name, kernel, blocks_for(n.tiles * heads, 1), kThreads, floats * sizeof(float), stream, n, args...);
}

}  // namespace

template <class T>
void causal_attention_forward(const Exec& exec, const CausalAttentionForward<T>& args) {
  const std::int64_t heads = args.B * args.H;
  if (heads * args.L == 0) return;
  if (on_tensor_cores<T>(exec) && causal_attention_forward_mma(exec, args)) return;
  const Sizes n = sizes_of(args);
  with_width(n.width, [&](auto padded) {
    constexpr int kWidth = decltype(padded)::value;
    using Tile = attention::Tile<kWidth>;
    launch_tiles<kWidth>("causal_attention_forward", causal_attention_forward_kernel<T, kWidth>, n, heads,
                         Tile::kOwnFloats + 2 * Tile::kStreamedFloats + Tile::kWeightFloats, exec.stream,
                         args.qkv, args.o, args.lse);
  });
  round_result(args.B * args.L * args.D, args.o, args.o_rounded);
}

template <class T>
std::int64_t causal_attention_dqkv_pieces(const Exec& exec, const CausalAttentionBackward<T>& args) {
  return args.B * args.H * args.L > 0 && on_tensor_cores<T>(exec) ? causal_attention_backward_pieces_mma(args)
                                                                  : 0;
}

template <class T>
void causal_attention_backward(const Exec& exec, const CausalAttentionBackward<T>& args) {
  const std::int64_t heads = args.B * args.H;
  if (heads * args.L == 0) return;
  if (on_tensor_cores<T>(exec) && causal_attention_backward_mma(exec, args)) return;
  const Sizes n = sizes_of(args);
  const Scratch<float> delta(heads * n.L);
  launch_delta(exec, n, args, false, delta.data());
  with_width(n.width, [&](auto padded) {
    constexpr int kWidth = decltype(padded)::value;
    using Tile = attention::Tile<kWidth>;
    constexpr int kOperands = 2 * Tile::kOwnFloats + 2 * Tile::kStreamedFloats;
    launch_tiles<kWidth>("causal_attention_dkdv", causal_attention_dkdv_kernel<T, kWidth>, n, heads,
                         kOperands + 2 * Tile::kWeightFloats, exec.stream, args.qkv, args.lse, delta.data(),
                         args.dout, args.dqkv.data, args.dqkv.add);
    launch_tiles<kWidth>("causal_attention_dq", causal_attention_dq_kernel<T, kWidth>, n, heads,
                         kOperands + Tile::kWeightFloats, exec.stream, args.qkv, args.lse, delta.data(),
                         args.dout, args.dqkv.data, args.dqkv.add);
  });
  round_result(args.B * args.L * 3 * args.D, args.dqkv.data, args.dqkv_rounded);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(causal_attention_forward, CausalAttentionForward)
WEDGE_INSTANTIATE_CUDA(causal_attention_backward, CausalAttentionBackward)
template std::int64_t cu::causal_attention_dqkv_pieces(const Exec&, const CausalAttentionBackward<float>&);
template std::int64_t cu::causal_attention_dqkv_pieces(const Exec&, const CausalAttentionBackward<BFloat16>&);
}  // namespace wedge
