// Causal attention on tensor cores, backward (kernels/causal_attention.h; Dao 2023, FlashAttention-2). A warp
// owns 16 keys or 16 queries and adds up, over steps of 16 rows of the other side,
//
//   keys     dv = Σ pᵀ do,  dk = scale · Σ dsᵀ q        p = exp(scale · q kᵀ - lse)
//   queries  dq = scale · Σ ds k                        ds = p ∘ (do vᵀ - delta),  delta = rowsum(do ∘ o)
//
// so each output has one owner that adds in order of rows, and scores are made twice. Two ways:
//
//   resident  sequences whose q, k, v and do fit into shared memory (causal_attention_backward_resident.cu)
//   streamed  longer ones, and where a block cannot have that much of it (causal_attention_backward_mma.cu)
//
// Exponentials are of base 2, with scale · log2 e as one factor. Rounded to bfloat16 are q, k, v, do (in
// delta, too, so that a row of dS still sums to 0), P and dS; nothing else.
#pragma once

#include "kernels/cuda/causal_attention_mma.cuh"

namespace wedge::cu::attention_mma {

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

// The call where all its sequences stay in shared memory; false, and nothing is done, where not. For
// tensors that fit.
template <class T>
bool backward_of_resident(const Exec& exec, const CausalAttentionBackward<T>& args);

}  // namespace wedge::cu::attention_mma
