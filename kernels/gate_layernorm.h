// The Grassmann mixer's gate with the layer normalisation and the dropout that follow it in a post-norm
// block, products and all, on the GPU's tensor cores:
//
//   alpha = sigmoid([h ; g] Wᵀ + bias);  s = alpha h + (1 - alpha) g
//   y = mask · ((s - mean) rstd norm_weight + norm_bias),  rstd = 1 / sqrt(var + eps), var biased
#pragma once

#include <cstdint>

#include "kernels/dropout.h"
#include "kernels/exec.h"

namespace wedge::cu {

// Backward needs h, g, alpha, mean and rstd. It makes s again.
struct GateLayernormForward {
  std::int64_t rows, D;
  const float* h;            // [rows, D]
  const float* g;            // [rows, D]
  const BFloat16* weight;    // [D, 2D]
  const float* bias;         // [D] or null
  const float* norm_weight;  // [D]
  const float* norm_bias;    // [D]
  double eps;
  DropoutMask mask;      // rate 0: none
  float* alpha;          // [rows, D] =, or null where nobody asks for gradients, and the next three
  BFloat16* hg_rounded;  // [rows, 2D] = [h ; g]
  float* mean;           // [rows] =
  float* rstd;           // [rows] =
  float* y;              // [rows, D] =
  BFloat16* y_rounded;   // [rows, D] =, or null
};

// With x̂ = (s - mean) rstd, dŷ = mask · dy and v = dŷ norm_weight:
//   ds = rstd (v - mean(v) - x̂ mean(v x̂));  du = ds (h - g) alpha (1 - alpha)
//   dh (+)= ds alpha + du W_h;  dg (+)= ds (1 - alpha) + du W_g,  W = [W_h ; W_g]
//   dnorm_weight (+)= Σ dŷ x̂;  dnorm_bias (+)= Σ dŷ;  dbias (+)= Σ du
// What is null is not wanted.
struct GateLayernormBackward {
  std::int64_t rows, D;
  const float* dy;           // [rows, D]
  const float* h;            // [rows, D]
  const float* g;            // [rows, D]
  const float* alpha;        // [rows, D]
  const float* mean;         // [rows]
  const float* rstd;         // [rows]
  const BFloat16* weight;    // [D, 2D]
  const float* norm_weight;  // [D]
  DropoutMask mask;
  BFloat16* du;          // [rows, D] =
  Sink<float> dh, dg;    // [rows, D] (+)=
  BFloat16* dg_rounded;  // [rows, D] = what dg holds then; without dg too
  float* dg_sums;        // [gate_layernorm_pieces(rows), D] = sums over that many parts of dg's rows
  Sink<float> dnorm_weight, dnorm_bias, dbias;  // [D] (+)=
};

// Whether the two below take rows of D elements, a multiple of 8, at most 256, on this GPU, whose blocks must
// have 226 KB of shared memory (sm_90 has them). Every pointer must be aligned to 16 bytes.
bool has_gate_layernorm(std::int64_t D);

// Of dg's partial sums, for so many rows.
std::int64_t gate_layernorm_pieces(std::int64_t rows);

// Products of bfloat16 factors with sums in float32; everything else is float32.
void gate_layernorm_forward(const Exec& exec, const GateLayernormForward& args);
void gate_layernorm_backward(const Exec& exec, const GateLayernormBackward& args);

}  // namespace wedge::cu
