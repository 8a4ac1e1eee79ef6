// The emulator's meaning of kernels/cuda/mma.cuh, which describes these functions.
#pragma once

#include <cstdint>

#include "cuda_runtime.h"

namespace wedge::emulator {

void cp_async_16(void* shared, const void* global, bool valid = true);
void cp_async_commit();
void cp_async_wait(int groups);  // until at most so many of this thread's groups are unfinished
template <int kGroups>
void cp_async_wait() {
  cp_async_wait(kGroups);
}

void ldmatrix_x4(std::uint32_t r[4], const void* row, const char* file = __builtin_FILE(),
                 int line = __builtin_LINE());
void ldmatrix_x4_trans(std::uint32_t r[4], const void* row, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE());
void mma_m16n8k16_bf16(float d[4], const std::uint32_t a[4], const std::uint32_t b[2],
                       const char* file = __builtin_FILE(), int line = __builtin_LINE());
std::uint32_t pack_bf16(float low, float high);
float exp2_approx(float x);
float reciprocal_approx(float x);

}  // namespace wedge::emulator
