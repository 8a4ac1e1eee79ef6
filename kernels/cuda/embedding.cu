// y[t] = weight[row(t)] with row(t) = t · step + ids[t], and dweight[v] (+)= Σ over t with row(t) = v of
// dy[t], in the order of t.
//
// Forward: a warp a row, lanes over its words, of 16 bytes where sizes and addresses allow it.
//
// Backward, without atomics on floats; rows of dweight that no id names are set to 0 by a fill. Three ways:
//   apart   step > 0, where every t has a row of its own: a thread an element.
//   search  up to kSearchedRows ids, in one launch, a block for each t. It looks through all ids from the
//   first
//           on; where the first with its row is not t itself, the row belongs to another block and this one
//           is done. Frequent ids are thus turned away early, and only as many blocks as there are distinct
//           rows read all ids. The block that stays lists the equal rows of kBatch ids at a time, in order,
//           and each of its threads adds their dy to its columns of dweight: the additions of a loop over t,
//           to the bit.
//   sorted  more ids, which are sorted first (sort_ids.cuh). A block has kPiece neighbours of the sorted
//           order and a tile of columns, adds each run of equal ids in order of t, and writes it to dweight
//           if all of it is its own. What begins or ends beyond is a partial sum, two a block at most; a
//           second kernel adds those of one id, eight warps by turns and then their sums in order. What is
//           added to what depends on the ids alone, and one id throughout is the same work as all distinct.
//
// Bytes: forward reads and writes rows · D. Backward reads dy once and writes the rows of dweight that ids
// name, `search` once per batch in which they occur. In search, ids are 4 · T · (distinct ids) bytes of reads
// from L2: 64 MiB at most for T = 4,096, some 15 µs, which is what the sort's six small launches cost; 16 GiB
// for T = 65,536, where sorting takes 2 to 3 MB of pairs and counts a launch, and partial sums 1/64 of dy.
#include "kernels/embedding.h"

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/sort_ids.cuh"

namespace wedge::cu {
namespace {

constexpr int kForwardThreads = 256;
constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kPerLane = 8;
constexpr int kBatch = kThreads * kPerLane;  // ids looked at between two barriers
constexpr int kUnroll = 8;
constexpr std::int64_t kSearchedRows = 4096;
constexpr std::int64_t kMostSorted = std::int64_t{1} << 30;  // positions are int there
constexpr int kPiece = kThreads;                             // sorted ids of a block
constexpr int kSortedUnroll = 16;
constexpr int kRunWarps = 8, kRunThreads = kRunWarps * kWarp;

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

// Lists, in order, the j < kBatch with ids[begin + j] = `row`; returns how many. Warp w looks at kPerLane ·
// 32 neighbours. All threads must call; `list` may be read until the next call.
template <class T>
__device__ int list_equal(const EmbeddingBackward<T>& args, std::int64_t begin, std::int64_t row, int* list,
                          int* counts) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int first = warp * kPerLane * kWarp + lane;
  bool same[kPerLane];
  for (int j = 0; j < kPerLane; ++j) {
    const std::int64_t t = begin + first + j * kWarp;
    same[j] = t < args.rows && args.ids[t] == row;
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
    const std::int64_t row = args.ids[t];
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

// No two t have the same row.
template <class T>
__global__ void __launch_bounds__(kThreads) embedding_backward_apart_kernel(EmbeddingBackward<T> args) {
  for (std::int64_t i = thread_in_grid(); i < args.rows * args.D; i += threads_in_grid()) {
    const std::int64_t t = i / args.D, row = t * args.step + args.ids[t];
    put(args.dweight + row * args.D + i % args.D, to_float(args.dy[i]), args.dweight_add);
  }
}

// The ids of a piece, and whether its first and its last run exceed it.
struct Piece {
  std::int64_t begin, end;
  bool from_before, goes_on;

  __device__ Piece(std::int64_t rows, const IdAt* sorted, std::int64_t number) : begin(number * kPiece) {
    end = begin + kPiece < rows ? begin + kPiece : rows;
    from_before = begin > 0 && sorted[begin - 1].id == sorted[begin].id;
    goes_on = end < rows && sorted[end].id == sorted[end - 1].id;
  }
};

// partials [pieces, 2, D]: of the run that comes from before, and of the one that begins here and goes on.
template <class T>
__global__ void __launch_bounds__(kThreads)
    embedding_backward_sorted_kernel(EmbeddingBackward<T> args, const IdAt* sorted, float* partials) {
  WEDGE_SHARED(IdAt, own, kPiece);
  const Piece piece(args.rows, sorted, blockIdx.x);
  const int count = static_cast<int>(piece.end - piece.begin), thread = static_cast<int>(threadIdx.x);
  if (thread < count) own[thread] = sorted[piece.begin + thread];
  __syncthreads();
  const std::int64_t d = static_cast<std::int64_t>(blockIdx.y) * kThreads + thread;
  if (d >= args.D) return;

  float* const partial = partials + static_cast<std::int64_t>(blockIdx.x) * 2 * args.D + d;
  bool comes = piece.from_before;  // the run that is being added
  float sum = 0;
  for (int first = 0; first < count; first += kSortedUnroll) {
    // Of every k all that is read, before anything is added: dy, and dweight where a run begins.
    float x[kSortedUnroll], start[kSortedUnroll];
    WEDGE_UNROLL
    for (int j = 0; j < kSortedUnroll; ++j) {
      const int k = first + j;
      const bool begins = k < count && (k == 0 ? !piece.from_before : own[k].id != own[k - 1].id);
      x[j] = k < count ? to_float(args.dy[own[k].t * args.D + d]) : 0.0f;
      start[j] = begins && args.dweight_add ? args.dweight[own[k].id * args.D + d] : 0.0f;
    }
    WEDGE_UNROLL
    for (int j = 0; j < kSortedUnroll; ++j) {
      const int k = first + j;
      if (k >= count) break;
      if (k == 0 || own[k].id != own[k - 1].id) sum = start[j];
      sum += x[j];
      const bool last = k + 1 == count;
      if (!last && own[k + 1].id == own[k].id) continue;
      if (comes)
        partial[0] = sum;
      else if (last && piece.goes_on)
        partial[args.D] = sum;
      else
        args.dweight[own[k].id * args.D + d] = sum;
      comes = false;
    }
  }
}

// dweight of the run that begins in this piece and goes on = its sum there + those in the pieces after it.
static __global__ void __launch_bounds__(kRunThreads)
    embedding_backward_runs_kernel(std::int64_t rows, std::int64_t D, const IdAt* sorted,
                                   const float* partials, float* dweight) {
  WEDGE_SHARED(float, sums, kRunThreads);
  const std::int64_t number = blockIdx.x;
  const Piece piece(rows, sorted, number);
  const std::int32_t id = sorted[piece.end - 1].id;
  if (!piece.goes_on || (piece.from_before && sorted[piece.begin].id == id)) return;
  // The last piece that begins with this id, number + 1 at least.
  std::int64_t last = number + 1, beyond = (rows + kPiece - 1) / kPiece;
  while (beyond - last > 1) {
    const std::int64_t middle = (last + beyond) / 2;
    (sorted[middle * kPiece].id == id ? last : beyond) = middle;
  }
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t d = static_cast<std::int64_t>(blockIdx.y) * kWarp + thread % kWarp;
  float sum = 0;
  if (d < D) {
    for (std::int64_t at = number + thread / kWarp; at <= last; at += kRunWarps * kUnroll) {
      float x[kUnroll];
      WEDGE_UNROLL
      for (int j = 0; j < kUnroll; ++j) {
        const std::int64_t one = at + j * kRunWarps;
        x[j] = one <= last ? partials[(one * 2 + (one == number ? 1 : 0)) * D + d] : 0.0f;
      }
      WEDGE_UNROLL
      for (int j = 0; j < kUnroll; ++j) sum += x[j];
    }
  }
  sums[thread] = sum;
  __syncthreads();
  if (thread >= kWarp || d >= D) return;
  for (int warp = 1; warp < kRunWarps; ++warp) sum += sums[warp * kWarp + thread];
  dweight[id * D + d] = sum;
}

template <class T>
void backward_sorted(const Exec& exec, const EmbeddingBackward<T>& args) {
  const SortedIds sorted(exec, args.rows, args.V, args.ids);
  const unsigned pieces = blocks_for(args.rows, kPiece);
  const Scratch<float> partials(std::int64_t{pieces} * 2 * args.D);
  launch("embedding_backward_sorted", embedding_backward_sorted_kernel<T>,
         dim3(pieces, blocks_for(args.D, kThreads)), kThreads, 0, exec.stream, args, sorted.data(),
         partials.data());
  launch("embedding_backward_runs", embedding_backward_runs_kernel, dim3(pieces, blocks_for(args.D, kWarp)),
         kRunThreads, 0, exec.stream, args.rows, args.D, sorted.data(), partials.data(), args.dweight);
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
  // Rows that no id names; the others are assigned again below.
  if (!args.dweight_add && args.V * args.D > 0)
    check(cudaMemsetAsync(args.dweight, 0, static_cast<std::size_t>(args.V * args.D) * sizeof(float),
                          static_cast<cudaStream_t>(exec.stream)),
          "embedding_backward");
  if (args.rows == 0 || args.D == 0) return;
  if (args.step > 0)
    launch("embedding_backward_apart", embedding_backward_apart_kernel<T>,
           blocks_for(args.rows * args.D, kThreads), kThreads, 0, exec.stream, args);
  else if (args.rows > kSearchedRows && args.rows <= kMostSorted)
    backward_sorted(exec, args);
  else
    launch("embedding_backward", embedding_backward_kernel<T>, blocks_for(args.rows, 1), kThreads, 0,
           exec.stream, args);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(embedding_forward, EmbeddingForward)
WEDGE_INSTANTIATE_CUDA(embedding_backward, EmbeddingBackward)
}  // namespace wedge
