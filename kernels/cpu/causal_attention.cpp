// One task per (sequence, head): queries go in blocks of kBlock, each against all keys it may see, so a
// thread's scratch is kBlock × L and a head's gradients are written by one thread, in order.
#include "kernels/causal_attention.h"

#include <cmath>

#include "kernels/cpu/exp.h"
#include "kernels/cpu/flush_denormals.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/matmul.h"

namespace wedge::cpu {
namespace {

constexpr std::int64_t kBlock = 32;

template <class T>
struct Head {
  std::int64_t width, stride;  // of a row of q, k, v
  const T *q, *k, *v;
  T scale;
};

template <class T, class Args>
Head<T> head_of(const Args& args, std::int64_t b, std::int64_t h) {
  const std::int64_t width = args.D / args.H, stride = 3 * args.D;
  const T* q = args.qkv + b * args.L * stride + h * width;
  return {width, stride, q, q + args.D, q + 2 * args.D, T(1) / std::sqrt(static_cast<T>(width))};
}

// scores[i, j] = scale · q[first + i] · k[j] for j < keys
template <class T>
void scores_of(const Exec& exec, const Head<T>& head, std::int64_t first, std::int64_t queries,
               std::int64_t keys, T* scores) {
  cpu::gemm<T>(exec, {.M = queries,
                      .N = keys,
                      .K = head.width,
                      .A = {head.q + first * head.stride, head.stride},
                      .B = transposed(head.k, head.stride),
                      .C = {scores, keys},
                      .alpha = head.scale});
}

// scores = softmax(scores); lse, if there is one, = log Σ exp(scores). Backward makes the weights in the same way:
// exp(S - lse) would lose what lse rounds away, the more the larger the scores are.
template <class T>
void softmax_row(std::int64_t n, T* scores, T* lse = nullptr) {
  const FlushDenormals flush;
  auto row = as_array(scores, n);
  const T max = row.maxCoeff();
  exp_run(n, scores, max, scores);
  const T sum = row.sum();
  row *= T(1) / sum;
  if (lse != nullptr) *lse = max + std::log(sum);
}

}  // namespace

template <class T>
void causal_attention_forward(const Exec& exec, const CausalAttentionForward<T>& args) {
  parallel_for(args.B * args.H, 1, [&](std::int64_t begin, std::int64_t end) {
    const Scratch<T> scratch(kBlock * args.L);
    T* scores = scratch.data();
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t b = task / args.H, h = task % args.H;
      const Head<T> head = head_of<T>(args, b, h);
      for (std::int64_t first = 0; first < args.L; first += kBlock) {
        const std::int64_t queries = std::min(kBlock, args.L - first), keys = first + queries;
        scores_of(exec, head, first, queries, keys, scores);
        for (std::int64_t i = 0; i < queries; ++i) {
          const std::int64_t seen = first + i + 1;
          softmax_row(seen, scores + i * keys,
                      args.lse != nullptr ? args.lse + task * args.L + first + i : nullptr);
          std::fill(scores + i * keys + seen, scores + (i + 1) * keys, T(0));
        }
        cpu::gemm<T>(exec, {.M = queries,
                            .N = head.width,
                            .K = keys,
                            .A = {scores, keys},
                            .B = {head.v, head.stride},
                            .C = {args.o + (b * args.L + first) * args.D + h * head.width, args.D}});
      }
    }
  });
}

template <class T>
void causal_attention_backward(const Exec& exec, const CausalAttentionBackward<T>& args) {
  parallel_for(args.B * args.H, 1, [&](std::int64_t begin, std::int64_t end) {
    const Scratch<T> p_scratch(kBlock * args.L), dp_scratch(kBlock * args.L);
    T *p = p_scratch.data(), *dp = dp_scratch.data();
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t b = task / args.H, h = task % args.H;
      const Head<T> head = head_of<T>(args, b, h);
      const std::int64_t at = b * args.L * args.D + h * head.width;
      T* dq = args.dqkv.data + (head.q - args.qkv);
      T *dk = dq + args.D, *dv = dk + args.D;
      // Later blocks of queries add to the keys that earlier ones have seen; their own keys they meet first.
      for (std::int64_t first = 0; first < args.L; first += kBlock) {
        const std::int64_t queries = std::min(kBlock, args.L - first), keys = first + queries;
        const T* dout = args.dout + at + first * args.D;
        if (!args.dqkv.add)
          for (std::int64_t j = first; j < keys; ++j) {
            std::fill_n(dk + j * head.stride, head.width, T(0));
            std::fill_n(dv + j * head.stride, head.width, T(0));
          }
        scores_of(exec, head, first, queries, keys, p);
        cpu::gemm<T>(exec, {.M = queries,
                            .N = keys,
                            .K = head.width,
                            .A = {dout, args.D},
                            .B = transposed(head.v, head.stride),
                            .C = {dp, keys}});
        for (std::int64_t i = 0; i < queries; ++i) {
          const FlushDenormals flush;
          const std::int64_t t = first + i, seen = t + 1;
          auto row = as_array(p + i * keys, seen), drow = as_array(dp + i * keys, seen);
          const T delta = (as_array(args.o + at + t * args.D, head.width) *
                           as_array(args.dout + at + t * args.D, head.width))
                              .sum();
          softmax_row(seen, p + i * keys);
          drow = head.scale * row * (drow - delta);
          std::fill(p + i * keys + seen, p + (i + 1) * keys, T(0));
          std::fill(dp + i * keys + seen, dp + (i + 1) * keys, T(0));
        }
        cpu::gemm<T>(exec, {.M = keys,
                            .N = head.width,
                            .K = queries,
                            .A = transposed(p, keys),
                            .B = {dout, args.D},
                            .C = {dv, head.stride},
                            .beta = 1});
        cpu::gemm<T>(exec, {.M = queries,
                            .N = head.width,
                            .K = keys,
                            .A = {dp, keys},
                            .B = {head.k, head.stride},
                            .C = {dq + first * head.stride, head.stride},
                            .beta = args.dqkv.add ? T(1) : T(0)});
        cpu::gemm<T>(exec, {.M = keys,
                            .N = head.width,
                            .K = queries,
                            .A = transposed(dp, keys),
                            .B = {head.q + first * head.stride, head.stride},
                            .C = {dk, head.stride},
                            .beta = 1});
      }
    }
  });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(causal_attention_forward, CausalAttentionForward)
WEDGE_INSTANTIATE_CPU(causal_attention_backward, CausalAttentionBackward)
}  // namespace wedge
