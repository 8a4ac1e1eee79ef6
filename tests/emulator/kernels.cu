// Kernels that use every word of the emulator as it is meant.
#include "tests/emulator/kernels.h"

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/mma.cuh"

namespace wedge::emulator_test {

using namespace wedge::cu;  // as a kernel's own file sees them

std::uint64_t packed(uint3 block, uint3 thread) {
  std::uint64_t word = 1;
  for (const unsigned i : {block.x, block.y, block.z, thread.x, thread.y, thread.z}) word = word * 97 + i;
  return word;
}

namespace {

__global__ void indices_kernel(std::uint64_t* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * (blockDim.x * blockDim.y * blockDim.z) + thread] += packed(blockIdx, threadIdx);
}

__global__ void reverse_kernel(const float* x, float* y) {
  float* const shared = dynamic_shared<float>();
  const unsigned i = threadIdx.x, n = blockDim.x;
  shared[i] = x[i];
  __syncthreads();
  y[i] = shared[n - 1 - i];
}

__global__ void shuffles_kernel(const int* x, int operand, int width, int* y) {
  const int lane = static_cast<int>(threadIdx.x), value = x[lane];
  y[lane] = __shfl_sync(kAllLanes, value, operand, width);
  y[32 + lane] = __shfl_up_sync(kAllLanes, value, operand, width);
  y[64 + lane] = __shfl_down_sync(kAllLanes, value, operand, width);
  y[96 + lane] = __shfl_xor_sync(kAllLanes, value, operand, width);
  const double wide = __shfl_sync(kAllLanes, static_cast<double>(value) + 0.5, lane);
  if (wide != value + 0.5) y[lane] = -1;
}

__global__ void votes_kernel(const int* x, unsigned mask, unsigned* out) {
  if ((mask >> threadIdx.x & 1) == 0) return;
  const int positive = x[threadIdx.x] > 0;
  const unsigned ballot = __ballot_sync(mask, positive);
  const int any = __any_sync(mask, positive), all = __all_sync(mask, positive);
  __syncwarp(mask);
  out[0] = ballot;
  out[1] = static_cast<unsigned>(any);
  out[2] = static_cast<unsigned>(all);
}

__global__ void block_sums_kernel(const float* x, float* y) {
  WEDGE_SHARED(float, shared, kWarp);
  const float value = x[threadIdx.x];
  const float sum = block_sum(value, shared), most = block_max(value, shared);
  const float warp = warp_sum(value), warp_most = warp_max(value);
  if (threadIdx.x == 0) {
    y[0] = sum;
    y[1] = most;
    y[2] = warp;
    y[3] = warp_most;
  }
}

__global__ void atomics_kernel(int n, const float* x, float* sum, int* most) {
  for (std::int64_t i = thread_in_grid(); i < n; i += threads_in_grid()) {
    atomicAdd(sum, __ldg(x + i));
    atomicMax(most, static_cast<int>(x[i]));
  }
}

__global__ void fresh_shared_kernel(float* y) {
  WEDGE_SHARED(float, first, 33);
  WEDGE_SHARED(double, second, 5);
  float* const third = dynamic_shared<float>();
  bool fresh = true;
  for (int i = 0; i < 33; ++i) fresh = fresh && first[i] != first[i];
  for (int i = 0; i < 5; ++i) fresh = fresh && second[i] != second[i];
  for (int i = 0; i < 7; ++i) fresh = fresh && third[i] != third[i];
  for (int i = 0; i < 33; ++i) first[i] = 1;
  for (int i = 0; i < 5; ++i) second[i] = 1;
  for (int i = 0; i < 7; ++i) third[i] = 1;
  y[blockIdx.x] = fresh ? 1.0f : 0.0f;
}

__global__ void tensor_cores_kernel(const std::uint16_t* A, const std::uint16_t* B, bool b_transposed,
                                    float* D) {
  WEDGE_SHARED(std::uint16_t, a, 16 * 16);
  WEDGE_SHARED(std::uint16_t, b, 16 * 8);
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  cp_async_16(a + 8 * lane, A + 8 * lane);
  cp_async_commit();
  cp_async_16(b + 8 * (lane % 16), B + 8 * (lane % 16));
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  std::uint32_t fa[4], fb[4];
  // Matrix i of A is its quarter of rows i mod 2, columns i / 2.
  const int i = lane / 8, j = lane % 8;
  ldmatrix_x4(fa, a + (j + i % 2 * 8) * 16 + i / 2 * 8);
  // Two matrices are B; the other two are not used, but their addresses must be good.
  if (b_transposed) {
    ldmatrix_x4(fb, b + j * 16 + i % 2 * 8);
  } else {
    ldmatrix_x4_trans(fb, b + (j + i % 2 * 8) * 8);
  }
  float d[4];
  for (int k = 0; k < 4; ++k) d[k] = D[(g + k / 2 * 8) * 8 + 2 * t + k % 2];
  mma_m16n8k16_bf16(d, fa, fb);
  for (int k = 0; k < 4; ++k) D[(g + k / 2 * 8) * 8 + 2 * t + k % 2] = d[k];
}

__global__ void load_matrices_kernel(const std::uint16_t* rows, bool transposed, std::uint32_t* r) {
  WEDGE_SHARED(std::uint16_t, shared, 32 * 8);
  const unsigned lane = threadIdx.x;
  for (unsigned k = 0; k < 8; ++k) shared[8 * lane + k] = rows[8 * lane + k];
  __syncwarp();
  std::uint32_t mine[4];
  if (transposed) {
    ldmatrix_x4_trans(mine, shared + 8 * lane);
  } else {
    ldmatrix_x4(mine, shared + 8 * lane);
  }
  for (unsigned k = 0; k < 4; ++k) r[4 * lane + k] = mine[k];
}

}  // namespace

void indices(dim3 grid, dim3 block, std::uint64_t* out) {
  launch("indices", indices_kernel, grid, block, 0, nullptr, out);
}
void reverse(int n, const float* x, float* y, cudaStream_t stream) {
  launch("reverse", reverse_kernel, 1, static_cast<unsigned>(n), static_cast<unsigned>(n) * sizeof(float),
         stream, x, y);
}
void shuffles(const int* x, int operand, int width, int* y) {
  launch("shuffles", shuffles_kernel, 1, 32, 0, nullptr, x, operand, width, y);
}
void votes(const int* x, unsigned mask, unsigned* out) {
  launch("votes", votes_kernel, 1, 32, 0, nullptr, x, mask, out);
}
void block_sums(int n, const float* x, float* y) {
  launch("block_sums", block_sums_kernel, 1, static_cast<unsigned>(n), 0, nullptr, x, y);
}
void atomics(int n, const float* x, float* sum, int* most) {
  launch("atomics", atomics_kernel, 3, 64, 0, nullptr, n, x, sum, most);
}
void fresh_shared(int blocks, float* y) {
  launch("fresh_shared", fresh_shared_kernel, static_cast<unsigned>(blocks), 1, 7 * sizeof(float), nullptr,
         y);
}
void tensor_cores(const std::uint16_t* A, const std::uint16_t* B, bool b_transposed, float* D) {
  launch("tensor_cores", tensor_cores_kernel, 1, 32, 0, nullptr, A, B, b_transposed, D);
}
void load_matrices(const std::uint16_t* rows, bool transposed, std::uint32_t* r) {
  launch("load_matrices", load_matrices_kernel, 1, 32, 0, nullptr, rows, transposed, r);
}

}  // namespace wedge::emulator_test
