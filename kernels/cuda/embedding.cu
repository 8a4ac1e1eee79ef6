// y[t] = weight[row(t)] with row(t) = t · step + ids[t], and dweight[v] (+)= Σ over t with row(t) = v of
// dy[t], in the order of t.
//
// Forward: a warp a row, lanes over its words, of 16 bytes where sizes and addresses allow it.
// Backward, without atomics: a block for each t. It looks through all ids from the first on; where the first
// with its row is not t itself, the row belongs to another block and this one is done. Frequent ids are thus
// turned away early, and only as many blocks as there are distinct rows read all ids. The block that stays
// lists the equal rows of kBatch ids at a time, in order, and each of its threads adds their dy to its
// columns of dweight: the additions of a loop over t, to the bit. One id throughout would leave all additions
// to one block: right, but slow. Bytes: forward reads and writes rows · D; backward reads dy once, and reads
// and writes the rows of dweight that ids name once per batch in which they occur; the ids come from the
// cache.
#include "kernels/embedding.h"

#include "kernels/cuda/common.cuh"

namespace wedge::cu {
namespace {

constexpr int kForwardThreads = 256;
constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kPerLane = 8;
constexpr int kBatch = kThreads * kPerLane;  // ids looked at between two barriers
constexpr int kUnroll = 8;

template <class Word>
__global__ void __launch_bounds__(kForwardThreads)
    embedding_forward_kernel(std::int64_t rows, std::int64_t words, std::int64_t step,
                             const std::int32_t* ids, const Word* weight, Word* y) {
  const std::int64_t warps = threads_in_grid() / kWarp;
  for (std::int64_t t = thread_in_grid() / kWarp; t < rows; t += warps) {
    const Word* from = weight + (t * step + ids[t]) * words;
    Word* to = y + t * words;
    for (std::int64_t i = static_cast<int>(threadIdx.x) % kWarp; i < words; i += kWarp) to[i] = from[i];
  }
}

// Lists, in order, the j < kBatch with row(begin + j) = `row`; returns how many. Warp w looks at kPerLane ·
// 32 neighbours. All threads must call; `list` may be read until the next call.
template <class T>
__device__ int list_equal(const EmbeddingBackward<T>& args, std::int64_t begin, std::int64_t row, int* list,
                          int* counts) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int first = warp * kPerLane * kWarp + lane;
  bool same[kPerLane];
  for (int j = 0; j < kPerLane; ++j) {
    const std::int64_t t = begin + first + j * kWarp;
    same[j] = t < args.rows && t * args.step + args.ids[t] == row;
  }
  unsigned equal[kPerLane];
  int count = 0;
  for (int j = 0; j < kPerLane; ++j) {
    equal[j] = __ballot_sync(kAllLanes, same[j]);
    count += __popc(equal[j]);
  }
  __syncthreads();  // the last list has been read
  if (lane == 0) counts[warp] = count;
  __syncthreads();
  int at = 0, total = 0;
  for (int w = 0; w < kWarps; ++w) {
    at += w < warp ? counts[w] : 0;
    total += counts[w];
  }
  const unsigned below = (1u << lane) - 1;
  for (int j = 0; j < kPerLane; ++j) {
    if ((equal[j] >> lane & 1u) != 0) list[at + __popc(equal[j] & below)] = first + j * kWarp;
    at += __popc(equal[j]);
  }
  __syncthreads();
  return total;
}

template <class T>
__global__ void __launch_bounds__(kThreads) embedding_backward_kernel(EmbeddingBackward<T> args) {
  WEDGE_SHARED(int, list, kBatch);
  WEDGE_SHARED(int, counts, kWarps);
  for (std::int64_t t = blockIdx.x; t < args.rows; t += gridDim.x) {
    const std::int64_t row = t * args.step + args.ids[t];
    float* dweight = args.dweight + row * args.D;
    bool first = true;
    for (std::int64_t begin = 0; begin < args.rows; begin += kBatch) {
      const int count = list_equal(args, begin, row, list, counts);
      if (count == 0) continue;
      if (first && begin + list[0] != t) break;
      const bool assign = first && !args.dweight_add;
      first = false;
      const T* dy = args.dy + begin * args.D;
      for (std::int64_t d = threadIdx.x; d < args.D; d += kThreads) {
        float sum = assign ? 0.0f : dweight[d];
        int k = 0;
        for (; k + kUnroll <= count; k += kUnroll) {
          float loaded[kUnroll];
          for (int j = 0; j < kUnroll; ++j) loaded[j] = to_float(dy[list[k + j] * args.D + d]);
          for (int j = 0; j < kUnroll; ++j) sum += loaded[j];
        }
        for (; k < count; ++k) sum += to_float(dy[list[k] * args.D + d]);
        dweight[d] = sum;
      }
    }
  }
}

bool allows_16_bytes(const void* p, std::int64_t bytes_a_row) {
  return bytes_a_row % 16 == 0 && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

template <class Word>
void launch_forward(const Exec& exec, std::int64_t rows, std::int64_t words, std::int64_t step,
                    const std::int32_t* ids, const Word* weight, Word* y) {
  launch("embedding_forward", embedding_forward_kernel<Word>, blocks_for(rows, kForwardThreads / kWarp),
         kForwardThreads, 0, exec.stream, rows, words, step, ids, weight, y);
}

}  // namespace

template <class T>
void embedding_forward(const Exec& exec, const EmbeddingForward<T>& args) {
  if (args.rows == 0 || args.D == 0) return;
  const std::int64_t bytes = args.D * static_cast<std::int64_t>(sizeof(T));
  if (allows_16_bytes(args.weight, bytes) && allows_16_bytes(args.y, bytes)) {
    launch_forward(exec, args.rows, bytes / 16, args.step, args.ids,
                   reinterpret_cast<const uint4*>(args.weight), reinterpret_cast<uint4*>(args.y));
  } else {
    launch_forward(exec, args.rows, args.D, args.step, args.ids, args.weight, args.y);
  }
}

template <class T>
void embedding_backward(const Exec& exec, const EmbeddingBackward<T>& args) {
  // Rows that no id names; those that one names are assigned again below.
  if (!args.dweight_add && args.V * args.D > 0)
    check(cudaMemsetAsync(args.dweight, 0, static_cast<std::size_t>(args.V * args.D) * sizeof(float),
                          static_cast<cudaStream_t>(exec.stream)),
          "embedding_backward");
  if (args.rows == 0 || args.D == 0) return;
  launch("embedding_backward", embedding_backward_kernel<T>, blocks_for(args.rows, 1), kThreads, 0,
         exec.stream, args);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(embedding_forward, EmbeddingForward)
WEDGE_INSTANTIATE_CUDA(embedding_backward, EmbeddingBackward)
}  // namespace wedge
