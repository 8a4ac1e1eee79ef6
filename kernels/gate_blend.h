// The Grassmann mixer's gate, whole and around its matrix products.
#pragma once

#include <cstdint>

#include "kernels/exec.h"
#include "kernels/matmul.h"

namespace wedge {

// alpha = sigmoid([h ; g] Wᵀ + bias);  y = alpha h + (1 - alpha) g
template <class T>
struct GateBlendForward {
  std::int64_t rows, D;
  const T* h;       // [rows, D]
  const T* g;       // [rows, D]
  const T* weight;  // [D, 2D]
  const T* bias;    // [D] or null
  T* alpha;         // [rows, D] =
  T* y;             // [rows, D] =
  // With Exec::bf16_products: h, g and the weight as bfloat16, if that is at hand.
  const BFloat16 *h_rounded = nullptr, *g_rounded = nullptr, *weight_rounded = nullptr;
};

// alpha = sigmoid(u + bias);  y = alpha h + (1 - alpha) g
template <class T>
struct BlendForward {
  std::int64_t rows, D;
  const T* h;     // [rows, D]
  const T* g;     // [rows, D]
  const T* bias;  // [D] or null
  T* alpha;       // [rows, D]: u on entry, alpha on return
  T* y;           // [rows, D] =
};

// du = dy (h - g) alpha (1 - alpha);  dh (+)= dy alpha;  dg (+)= dy (1 - alpha);  dbias (+)= Σ du
// dh, dg and dbias may be null.
template <class T>
struct BlendBackward {
  std::int64_t rows, D;
  const T* h;                      // [rows, D]
  const T* g;                      // [rows, D]
  const T* alpha;                  // [rows, D]
  const T* dy;                     // [rows, D]
  T* du;                           // [rows, D] =
  Sink<T> dh, dg;                  // [rows, D] (+)=
  Sink<Stat<T>> dbias;             // [D] (+)=
  BFloat16* du_rounded = nullptr;  // CUDA: [rows, D] or null; du may be null then
};

WEDGE_KERNEL(gate_blend_forward, GateBlendForward)
WEDGE_KERNEL(blend_forward, BlendForward)
WEDGE_KERNEL(blend_backward, BlendBackward)

// GateBlendForward by one device's gemm and blend_forward: [h ; g] Wᵀ is h W_hᵀ + g W_gᵀ with W_h and W_g the
// two halves of W's columns, so there is no concatenation in memory.
template <class T, class Product, class Blend>
void gate_in_parts(const GateBlendForward<T>& n, const Product& multiply, const Blend& blend) {
  Gemm<T> product{.M = n.rows,
                  .N = n.D,
                  .K = n.D,
                  .A = {n.h, n.D, n.h_rounded},
                  .B = transposed(n.weight, 2 * n.D, n.weight_rounded),
                  .C = {n.alpha, n.D}};
  multiply(product);
  product.A = {n.g, n.D, n.g_rounded};
  product.B = product.B.offset_by(n.D);
  product.beta = 1;
  multiply(product);
  blend(BlendForward<T>{n.rows, n.D, n.h, n.g, n.bias, n.alpha, n.y});
}

}  // namespace wedge
