// What emulator_test.cpp launches: kernels that are right (kernels.cu), and kernels with one fault each
// (faults.cu).
#pragma once

#include <cstdint>

#include "tests/support/emulator/cuda_runtime.h"

namespace wedge::emulator_test {

// out[i] = the indices of thread i of the grid, packed; i counts x first, threads first.
void indices(dim3 grid, dim3 block, std::uint64_t* out);
std::uint64_t packed(uint3 block, uint3 thread);

// One block: y[i] = x[n - 1 - i], through dynamic shared memory.
void reverse(int n, const float* x, float* y, cudaStream_t stream = nullptr);

// One warp: y[how][lane] = what each shuffle gives for x[lane] and this operand and width; kinds idx, up,
// down, xor.
void shuffles(const int* x, int operand, int width, int* y);
// One warp: out = ballot, any and all of x[lane] > 0, over the lanes of the mask. Other lanes do not take
// part.
void votes(const int* x, unsigned mask, unsigned* out);

// y[0], y[1] = sum and maximum over a block of n threads; y[2], y[3] over each of its warps, of warp 0.
void block_sums(int n, const float* x, float* y);

// *sum += x[i] for all i, by atomics; *most = the greatest.
void atomics(int n, const float* x, float* sum, int* most);

// y[block] = 1 if all arrays are NaN when a block starts; then it writes to them.
void fresh_shared(int blocks, float* y);

// D [16, 8] += A [16, 16] · B [16, 8] of bfloat16, the inputs through cp.async and ldmatrix; b_transposed: B
// is [8, 16].
void tensor_cores(const std::uint16_t* A, const std::uint16_t* B, bool b_transposed, float* D);
// r[lane][i] of one ldmatrix_x4 of 32 rows of 8 elements.
void load_matrices(const std::uint16_t* rows, bool transposed, std::uint32_t* r);

// Faults. Every one takes what it needs of n device elements.
enum class Fault {
  none,
  no_barrier_before_read,   // of what other threads wrote
  no_barrier_before_write,  // to what other threads still read
  no_warp_barrier,
  depends_on_block_order,
  write_before_global,
  write_beyond_global,
  write_before_shared,
  write_beyond_shared,
  write_beyond_dynamic_shared,
  return_before_barrier,
  different_barriers,
  lanes_skip_shuffle,
  shuffle_from_outside_mask,
  mask_lacks_caller,
  throws,
  no_wait_for_copy,
  misaligned_copy
};
void run_fault(Fault fault, int n, const float* x, float* y);

}  // namespace wedge::emulator_test
