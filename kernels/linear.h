// A linear layer: its products with a bias or its gradient, and bias with GELU.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

// y = x Wᵀ + b: y[row, i] = Σ_k x[row, k] weight[i, k] + bias[i]
template <class T>
struct LinearForward {
  std::int64_t rows, K, N;
  const T* x;       // [rows, K]
  const T* weight;  // [N, K]
  const T* bias;    // [N] or null
  T* y;             // [rows, N] =
  // Copies of the factors, as Gemm has them (matmul.h)
  const BFloat16 *x_rounded = nullptr, *weight_rounded = nullptr;
};

// dbias (+)= Σ dy over the rows
template <class T>
struct LinearDbias {
  std::int64_t rows, N;
  const T* dy;                           // [rows, N], or null where its copy is given, which is summed then
  Sink<T> dbias;                         // [N] (+)=
  const BFloat16* dy_rounded = nullptr;  // CUDA: [rows, N] or null
};

// u += bias (kept for backward);  y = gelu(u) = u Φ(u), exact. bias may be null.
template <class T>
struct BiasGeluForward {
  std::int64_t rows, D;
  const T* bias;                  // [D] or null
  T* u;                           // [rows, D] +=
  T* y;                           // [rows, D] =
  BFloat16* y_rounded = nullptr;  // CUDA: [rows, D] = y, or null
};

// du = dy · (Φ(u) + u φ(u));  dbias (+)= Σ du
template <class T>
struct BiasGeluBackward {
  std::int64_t rows, D;
  const T* u;                      // [rows, D], bias included
  const T* dy;                     // [rows, D]
  T* du;                           // [rows, D] =
  Sink<Stat<T>> dbias;             // [D] (+)=, or null
  BFloat16* du_rounded = nullptr;  // CUDA: [rows, D] or null; du may be null then
};

// The same between products of bfloat16 factors, with everything but the bias in bfloat16, and u without it:
//   y = gelu(u + bias);  du = dy · gelu'(u + bias);  dbias (+)= Σ du, before du is rounded
// Φ to within 1e-7, far less than a rounding to bfloat16. CUDA only.
struct GeluOfRounded {
  std::int64_t rows, D;
  const BFloat16* u;  // [rows, D]
  const float* bias;  // [D] or null
  BFloat16* y;        // [rows, D] =
};
struct GeluOfRoundedBackward {
  std::int64_t rows, D;
  const BFloat16* u;   // [rows, D]
  const float* bias;   // [D] or null
  const BFloat16* dy;  // [rows, D]
  BFloat16* du;        // [rows, D] =
  Sink<float> dbias;   // [D] (+)=, or null
};

WEDGE_KERNEL(linear_forward, LinearForward)
WEDGE_KERNEL(linear_dbias, LinearDbias)
WEDGE_KERNEL(bias_gelu_forward, BiasGeluForward)
WEDGE_KERNEL(bias_gelu_backward, BiasGeluBackward)

namespace cu {
void gelu_of_rounded(const Exec& exec, const GeluOfRounded& args);
void gelu_of_rounded_backward(const Exec& exec, const GeluOfRoundedBackward& args);
}  // namespace cu

}  // namespace wedge
