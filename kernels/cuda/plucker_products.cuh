// plucker_linear's products on tensor cores, for R of at most 32: features and weights rounded to bfloat16
// once, sums in float32. The features are made from z and s where they are multiplied.
#pragma once

#include "kernels/cuda/plucker_ring.cuh"

namespace wedge::cu::plucker {

// Whether a call's products are these.
template <class T>
bool on_tensor_cores(const Exec& exec, const Sizes& n) {
  return n.rows > 0 && plucker_ring_elements<T>(exec, n.R, n.D) > 0;
}

// g = F Wᵀ + bias; w is W in the order of the ring. Makes s as well, or finds it made.
template <class T>
void forward_product(const Exec& exec, const Sizes& n, const Lags& lags, const T* z, T* s, const BFloat16* w,
                     const T* bias, T* g);
bool forward_makes_states(const Sizes& n);

// Rows of bfloat16, 16-byte aligned, `pitch` apart, a multiple of 8; zeros beyond the row's end.
struct Rounded {
  const BFloat16* x;
  std::int64_t pitch;
};

// dweight (+)= dgᵀ F
template <class T>
void dweight_product(const Exec& exec, const Sizes& n, const T* z, const T* s, const Rounded& dg,
                     float* dweight, bool add);

// to =, with G = dg W contracted.
template <class T>
void contract_product(const Exec& exec, const Sizes& n, const Lags& lags,
                      const PluckerLinearBackward<T>& args, const BFloat16* w, const Rounded& dg,
                      const Shares& to);
// Whether D is small enough for it: at most 1,024.
bool contract_fits(std::int64_t D);

// args.dz, its copy and its sums (plucker_gather.cu); no product.
template <class T>
void gather(const Exec& exec, const Sizes& n, const Lags& lags, const PluckerLinearBackward<T>& args,
            const Shares& from);

}  // namespace wedge::cu::plucker
