// Tensor cores and the copies that feed them, one instruction a function. For sm_80 and later; the emulator
// does the same with plain loops.
//
// mma_m16n8k16_bf16: D[16, 8] += A[16, 16] · B[16, 8], bf16 inputs, float32 sums. Lane 4 g + t holds
//
//   A  a[0]  row g      columns 2t, 2t+1        B  b[0]  rows 2t, 2t+1    column g
//      a[1]  row g + 8  columns 2t, 2t+1           b[1]  rows 2t+8, 2t+9  column g
//      a[2]  row g      columns 2t+8, 2t+9      D  d[0], d[1]  row g      columns 2t, 2t+1
//      a[3]  row g + 8  columns 2t+8, 2t+9         d[2], d[3]  row g + 8  columns 2t, 2t+1
//
// with two bf16 in a word, the first in its lower half.
//
// ldmatrix_x4 reads four 8 x 8 matrices of 16-bit elements from shared memory. Lane 8 i + j brings the
// address (16-byte aligned) of row j of matrix i; lane 4 g + t gets elements 2t, 2t+1 of row g of matrix i in
// r[i], with _trans those of column g. The four matrices to ask for:
//
//   A, row-major       (rows 0-7, columns 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15): r = a
//   B [K, N]           _trans; rows 0-7 and 8-15 of 8 columns, then of the next 8: r[0..1], r[2..3] = b
//   B stored [N, K]    not transposed; columns 0-7 and 8-15 of 8 rows, then of the next 8
//
// pack_bf16 rounds two floats to such a word, to nearest even. exp2_approx(x) = 2^x within 2 units in the
// last place, 0 where that is subnormal: what is rounded to bf16 next needs no more, and exp2f takes four
// times as many instructions. reciprocal_approx(x) = 1 / x within 1 unit likewise.
//
// cp_async_16 copies 16 bytes from global to shared memory (16-byte aligned both) without passing through
// registers, or zeros where not `valid`: for the tails, whose source then is not read. It is done after
// cp_async_commit() closed its group, cp_async_wait<N>() waited until at most N of this thread's groups are
// open, and, for other threads, a barrier.
#pragma once

#include "tensor/cuda/launch.cuh"

#if defined(WEDGE_EMULATOR)

#include "tensor_cores.h"

namespace wedge::cu {
using emulator::cp_async_16;
using emulator::cp_async_commit;
using emulator::cp_async_wait;
using emulator::exp2_approx;
using emulator::ldmatrix_x4;
using emulator::ldmatrix_x4_trans;
using emulator::mma_m16n8k16_bf16;
using emulator::pack_bf16;
using emulator::reciprocal_approx;
}  // namespace wedge::cu

#else

namespace wedge::cu {

__device__ inline unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ inline void cp_async_16(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}

__device__ inline void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int kGroups>
__device__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

__device__ inline void ldmatrix_x4(std::uint32_t r[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

__device__ inline void ldmatrix_x4_trans(std::uint32_t r[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

__device__ inline void mma_m16n8k16_bf16(float d[4], const std::uint32_t a[4], const std::uint32_t b[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ inline float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace wedge::cu

#endif
