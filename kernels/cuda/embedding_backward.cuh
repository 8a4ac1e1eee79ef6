// What the two ways to scatter dy along sorted ids have in common, and the one for many ids
// (embedding_backward_pieces.cu).
#pragma once

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/dropout_mask.cuh"
#include "kernels/cuda/sort_ids.cuh"

namespace wedge::cu::scatter {

// What is scattered: dweight[v] (+)= Σ over t with ids[t] = v of mask ∘ dy[t].
template <class T>
struct Rows {
  std::int64_t rows, D;
  const T* dy;  // [rows, D]
  MaskSource mask;
  Sink<float> dweight;
};

// sum += mask ∘ x, the product rounded as the kernel that writes it does; i: x's place in dy.
template <int kWidth, class T, class Sum>
__device__ void add_masked(const Masks& mask, std::int64_t i, const Pack<T, kWidth>& x, Sum (&sum)[kWidth]) {
  float m[kWidth];
  mask.fill(i, m);
  WEDGE_UNROLL
  for (int w = 0; w < kWidth; ++w) sum[w] += __fmul_rn(m[w], to_float(x.v[w]));
}

// sum = what it is added to, or 0.
template <int kWidth>
__device__ void load_start(bool add, const float* from, float (&sum)[kWidth]) {
  Floats<kWidth> start{};
  if (add) start = load_floats<kWidth>(from);
  WEDGE_UNROLL
  for (int w = 0; w < kWidth; ++w) sum[w] = start.v[w];
}
template <int kWidth>
__device__ void store(const float (&sum)[kWidth], float* to) {
  Floats<kWidth> all;
  WEDGE_UNROLL
  for (int w = 0; w < kWidth; ++w) all.v[w] = sum[w];
  store_floats(to, all);
}

// The call, of kWidth columns a thread, for any number of ids.
template <class T, int kWidth>
void backward_in_pieces(const Exec& exec, const Rows<T>& args, const IdAt* sorted);

}  // namespace wedge::cu::scatter
