// Causal softmax attention that keeps no L × L matrix for backward (Dao et al. 2022, FlashAttention).
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

// For each sequence and head, with scale = 1 / sqrt(head width):
//   S = scale · q kᵀ for keys <= the query's position;  o = softmax(S) v
// On CUDA lse = log Σ exp(S) is kept for backward, where P = exp(S - lse) has lse's rounding for its error.
// q, k, v are the three parts of one projection: rows of `qkv` are [q | k | v], each [H, D / H]. On the CPU,
// probabilities below the smallest normal number are zero.
template <class T>
struct CausalAttentionForward {
  std::int64_t B, L, H, D;
  const T* qkv;                   // [B, L, 3 D]
  T* o;                           // [B, L, D] =
  Stat<T>* lse;                   // [B, H, L] =, or null on the CPU
  BFloat16* o_rounded = nullptr;  // CUDA: [B, L, D] = o, or null
};

// Rebuilds the rows of P = softmax(S), a block of queries at a time:
//   dv += Pᵀ do;  dS = scale · P ∘ (do vᵀ - rowsum(do ∘ o));  dq = dS k;  dk += dSᵀ q
template <class T>
struct CausalAttentionBackward {
  std::int64_t B, L, H, D;
  const T* qkv;                      // [B, L, 3 D]
  const T* o;                        // [B, L, D]
  const Stat<T>* lse;                // CUDA: [B, H, L]
  const T* dout;                     // [B, L, D]
  Sink<T> dqkv;                      // [B, L, 3 D] (+)=
  BFloat16* dqkv_rounded = nullptr;  // CUDA: [B, L, 3 D] = what dqkv holds then, or null
  // CUDA: [causal_attention_dqkv_pieces(exec, args), 3 D] = sums over parts of the rows of dqkv, before it is
  // rounded to T; or null
  float* dqkv_sums = nullptr;
};

namespace cu {
// How many such sums causal_attention_backward can make of dqkv; 0: none, here.
template <class T>
std::int64_t causal_attention_dqkv_pieces(const Exec& exec, const CausalAttentionBackward<T>& args);
}  // namespace cu

WEDGE_KERNEL(causal_attention_forward, CausalAttentionForward)
WEDGE_KERNEL(causal_attention_backward, CausalAttentionBackward)

}  // namespace wedge
