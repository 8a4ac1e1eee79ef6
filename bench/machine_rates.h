// What this machine can do: the rates that timings are held against.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wedge::bench {

// A float32 product [M, K] x [K, N], operands stored transposed where the flags say so.
struct ProductShape {
  std::string name;
  bool trans_a, trans_b;
  std::int64_t M, N, K;
};

// The products of a training step of the founding configuration: T = 2048 tokens, d = 256, V = 30,522, the
// head by chunks of `head_rows` rows; forward, gradient of the input, gradient of the weight.
std::vector<ProductShape> step_products(std::int64_t head_rows);

// GFLOP/s of wedge's gemm over that shape: best of repeated calls, about 0.5 s, after one to warm up.
double sgemm_rate(const ProductShape& shape);

// GB/s of copying arrays far larger than the caches with all threads, bytes read and written both counted:
// best of repeated copies.
double copy_rate();

}  // namespace wedge::bench
