// What this machine can do: the rates that timings are held against.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace wedge::bench {

// n normal numbers of deviation 0.02 to multiply, the same 2^18 again and again. Constants would let a
// processor run faster than values do: bits that do not change cost no power.
Tensor drawn(std::int64_t n, DType dtype = DType::f32, Device device = Device::cpu);

// A float32 product [M, K] x [K, N], operands stored transposed where the flags say so.
struct ProductShape {
  bool trans_a, trans_b;
  std::int64_t M, N, K;
};

// GFLOP/s of wedge's gemm over that shape: best of repeated calls, about 0.5 s, after one to warm up.
double sgemm_rate(const ProductShape& shape);

// GB/s of copying arrays far larger than the caches with all threads, bytes read and written both counted:
// best of repeated copies.
double copy_rate();

// What a device reaches on its own, in GB/s and GFLOP/s; a copy's bytes are counted twice, as read and as
// written.
struct Rates {
  double copy = 0;
  double matrix = 0;       // float32
  double matrix_bf16 = 0;  // bfloat16 factors; on the CPU, which has none, float32
};

// The copy above, and a product of 1024³.
Rates cpu_rates();
// Timed by events: a copy of 1 GiB within device memory; wedge's gemm of 4096³ in float32 and of 8192³ in
// bfloat16. `quick` takes 1 MiB and 256³: enough to try a program, and no measure of anything.
Rates gpu_rates(bool quick);

}  // namespace wedge::bench
