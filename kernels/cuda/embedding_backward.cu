// dweight[v] (+)= Σ over t with row(t) = v of g[t], row(t) = t · step + ids[t] and g = dy or mask ∘ dy, in
// the order of t; and dpositions[l] (+)= Σ over b of g[b, l].
//
// Without atomics on floats; rows of dweight that no id names are set to 0 by a fill. dy is read, and the
// mask made, where it is added, four columns at a time where sizes and addresses allow it. Three ways:
//   apart   step > 0, where every t has a row of its own: a thread an element.
//   runs    up to kRankedRows ids, in one launch (and one that sorts, sort_ids.cuh, unless forward did). A
//           block has kGroups places of the sorted order and a tile of columns, and answers for the runs of
//           equal ids that begin there: a group of threads for each. A run of more than kGroups rows, the
//           last of the block's, is added by all groups in pieces of kUnroll rows by turns, and then their
//           sums in order. More blocks of the same launch add up the positions, in float64.
//   pieces  more ids (embedding_backward_pieces.cu). Positions are a launch of their own.
// What is added to what depends on the ids and sizes alone.
//
// Bytes: dy once for the tokens and once for the positions, and the rows of dweight that ids name, read and
// written.
#include "kernels/embedding.h"

#include <optional>

#include "kernels/cuda/embedding_backward.cuh"

namespace wedge::cu {
namespace {

using namespace scatter;

constexpr int kThreads = 256;
constexpr int kGroups = 16, kLanes = kThreads / kGroups;
constexpr int kUnroll = 4;

// sum += columns d, ... of rows row(0) ... row(count - 1) of mask ∘ dy, of which there are kUnroll at most.
template <int kWidth, class T, class Sum, class Row>
__device__ void add_rows(const T* dy, std::int64_t D, const Masks& mask, std::int64_t d, int count, Row row,
                         Sum (&sum)[kWidth]) {
  Pack<T, kWidth> x[kUnroll];
  WEDGE_UNROLL
  for (int j = 0; j < kUnroll; ++j)
    if (j < count) x[j] = *reinterpret_cast<const Pack<T, kWidth>*>(dy + row(j) * D + d);
  WEDGE_UNROLL
  for (int j = 0; j < kUnroll; ++j)
    if (j < count) add_masked(mask, row(j) * D + d, x[j], sum);
}

// The runs that begin in places block · kGroups to + kGroups - 1.
template <class T, int kWidth>
__device__ void add_runs(const Rows<T>& args, const IdAt* sorted, int block) {
  constexpr int kNear = 2 * kGroups;
  WEDGE_SHARED(IdAt, near, kNear);    // from the first place on; an id of -1 beyond the end
  WEDGE_SHARED(int, list, kThreads);  // rows of the long run, -1 beyond its end
  WEDGE_SHARED(int, long_run, 1);     // where it begins, or -1
  WEDGE_SHARED(float, sums, kThreads* kWidth);
  const Masks mask(args.mask);
  const auto rows = static_cast<int>(args.rows);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, group = thread / kLanes;
  const int begin = block * kGroups;
  if (thread < kNear) near[thread] = begin + thread < rows ? sorted[begin + thread] : IdAt{-1, 0};
  if (thread == 0) *long_run = -1;
  const std::int32_t before = begin > 0 ? sorted[begin - 1].id : -1;
  __syncthreads();

  const std::int64_t d = (static_cast<std::int64_t>(blockIdx.y) * kLanes + lane) * kWidth;
  const bool inside = d < args.D;
  const std::int32_t id = near[group].id;
  const bool begins = id >= 0 && id != (group > 0 ? near[group - 1].id : before);
  static_assert(kLanes == kGroups && kWarp == 2 * kLanes, "a lane looks at one of the kGroups next places");
  const unsigned equal = __ballot_sync(kAllLanes, near[group + 1 + lane].id == id);
  const int count = 1 + __popc(equal >> (lane_of_warp() - lane) & ((1u << kLanes) - 1));
  const bool is_long = count > kGroups;
  if (begins && is_long && lane == 0) *long_run = group;
  if (begins && !is_long && inside) {
    float* const to = args.dweight.data + id * args.D + d;
    float sum[kWidth];
    load_start(args.dweight.add, to, sum);
    for (int k = 0; k < count; k += kUnroll)
      add_rows(
          args.dy, args.D, mask, d, count - k,
          [&](int j) { return static_cast<std::int64_t>(near[group + k + j].t); }, sum);
    store(sum, to);
  }
  __syncthreads();
  if (*long_run < 0) return;

  const std::int32_t long_id = near[*long_run].id;
  float* const to = args.dweight.data + long_id * args.D + d;
  float sum[kWidth] = {}, start[kWidth] = {};
  if (group == 0 && inside) load_start(args.dweight.add, to, start);
  for (int at = begin + *long_run;; at += kThreads) {
    const IdAt next = at + thread < rows ? sorted[at + thread] : IdAt{-1, 0};
    list[thread] = next.id == long_id ? next.t : -1;
    __syncthreads();
    for (int piece = group; piece < kThreads / kUnroll; piece += kGroups) {
      const int* const own = list + piece * kUnroll;
      int length = 0;
      WEDGE_UNROLL
      for (int j = 0; j < kUnroll; ++j) length += own[j] >= 0 ? 1 : 0;
      if (inside)
        add_rows(
            args.dy, args.D, mask, d, length, [&](int j) { return static_cast<std::int64_t>(own[j]); }, sum);
    }
    const bool goes_on = list[kThreads - 1] >= 0;
    __syncthreads();  // the list has been read
    if (!goes_on) break;
  }
  WEDGE_UNROLL
  for (int w = 0; w < kWidth; ++w) sums[thread * kWidth + w] = sum[w];
  __syncthreads();
  if (group > 0 || !inside) return;
  for (int other = 0; other < kGroups; ++other) {
    WEDGE_UNROLL
    for (int w = 0; w < kWidth; ++w) start[w] += sums[(other * kLanes + lane) * kWidth + w];
  }
  store(start, to);
}

// dpositions of kGroups / parts positions: `parts` groups of threads share one, and have pieces of kUnroll of
// its rows by turns.
template <class T, int kWidth>
__device__ void add_positions(const TokenPositionBackward<T>& args, const MaskSource& source, int parts,
                              std::int64_t block) {
  WEDGE_SHARED(double, sums, kThreads* kWidth);
  const Masks mask(source);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, group = thread / kLanes;
  const std::int64_t d = (static_cast<std::int64_t>(blockIdx.y) * kLanes + lane) * kWidth;
  const std::int64_t l = block * (kGroups / parts) + group / parts;
  const int part = group % parts;
  const bool inside = d < args.D && l < args.L;
  double sum[kWidth] = {};
  if (inside) {
    for (std::int64_t b = std::int64_t{part} * kUnroll; b < args.B; b += std::int64_t{parts} * kUnroll) {
      const std::int64_t left = args.B - b;
      add_rows(
          args.dy, args.D, mask, d, left < kUnroll ? static_cast<int>(left) : kUnroll,
          [&](int j) { return (b + j) * args.L + l; }, sum);
    }
  }
  WEDGE_UNROLL
  for (int w = 0; w < kWidth; ++w) sums[thread * kWidth + w] = sum[w];
  __syncthreads();
  if (part > 0 || !inside) return;
  float* const to = args.dpositions.data + l * args.D + d;
  float start[kWidth];
  load_start(args.dpositions.add, to, start);
  for (int other = 1; other < parts; ++other) {
    WEDGE_UNROLL
    for (int w = 0; w < kWidth; ++w) sum[w] += sums[(thread + other * kLanes) * kWidth + w];
  }
  WEDGE_UNROLL
  for (int w = 0; w < kWidth; ++w) start[w] += static_cast<float>(sum[w]);
  store(start, to);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, 3) embedding_backward_kernel(Rows<T> args, const IdAt* sorted) {
  add_runs<T, kWidth>(args, sorted, static_cast<int>(blockIdx.x));
}

// The first run_blocks blocks have runs, the others positions.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads, 3)
    token_position_backward_kernel(TokenPositionBackward<T> args, Rows<T> rows, const IdAt* sorted,
                                   unsigned run_blocks, int parts) {
  if (blockIdx.x < run_blocks)
    add_runs<T, kWidth>(rows, sorted, static_cast<int>(blockIdx.x));
  else
    add_positions<T, kWidth>(args, rows.mask, parts, blockIdx.x - run_blocks);
}

// No two t have the same row.
template <class T>
__global__ void __launch_bounds__(kThreads) embedding_backward_apart_kernel(EmbeddingBackward<T> args) {
  for (std::int64_t i = thread_in_grid(); i < args.rows * args.D; i += threads_in_grid()) {
    const std::int64_t t = i / args.D, row = t * args.step + args.ids[t];
    put(args.dweight.data + row * args.D + i % args.D, to_float(args.dy[i]), args.dweight.add);
  }
}

// Calls body with 4 or 1, the columns that a thread takes.
template <class Body>
void with_width(bool four, const Body& body) {
  if (four)
    body(std::integral_constant<int, 4>());
  else
    body(std::integral_constant<int, 1>());
}

}  // namespace

template <class T>
void embedding_backward(const Exec& exec, const EmbeddingBackward<T>& args) {
  if (!args.dweight.add) fill_with_zero(args.dweight.data, args.V * args.D);
  if (args.rows == 0 || args.D == 0) return;
  if (args.step > 0) {
    launch("embedding_backward_apart", embedding_backward_apart_kernel<T>,
           blocks_for(args.rows * args.D, kThreads), kThreads, 0, exec.stream, args);
    return;
  }
  const SortedIds sorted(exec, args.rows, args.V, args.ids);
  const Rows<T> rows{args.rows, args.D, args.dy, MaskSource({}), args.dweight};
  const bool four =
      args.D % 4 == 0 && all_aligned(4 * sizeof(T), args.dy) && all_aligned(16, args.dweight.data);
  with_width(four, [&]<int kWidth>(std::integral_constant<int, kWidth>) {
    if (args.rows > kRankedRows) return backward_in_pieces<T, kWidth>(exec, rows, sorted.data());
    launch("embedding_backward", embedding_backward_kernel<T, kWidth>,
           dim3(blocks_for(args.rows, kGroups), blocks_for(args.D, kLanes * kWidth)), kThreads, 0,
           exec.stream, rows, sorted.data());
  });
}

template <class T>
void token_position_backward(const Exec& exec, const TokenPositionBackward<T>& args) {
  const std::int64_t n = args.B * args.L;
  const bool tokens(args.dtokens), positions(args.dpositions);
  if (tokens && !args.dtokens.add) fill_with_zero(args.dtokens.data, args.V * args.D);
  if (n == 0 || args.D == 0) {
    if (positions && !args.dpositions.add) fill_with_zero(args.dpositions.data, args.L * args.D);
    return;
  }
  const Rows<T> rows{n, args.D, args.dy, MaskSource(args.mask), args.dtokens};
  const bool small = n <= kRankedRows;
  std::optional<SortedIds> made;
  const auto* sorted = reinterpret_cast<const IdAt*>(args.order);
  if (tokens && sorted == nullptr) sorted = made.emplace(exec, n, args.V, args.ids).data();
  // Groups for a position: as many as have a piece.
  int parts = 1;
  while (parts < kGroups && parts * kUnroll < args.B) parts *= 2;
  const unsigned run_blocks = tokens && small ? blocks_for(n, kGroups) : 0;
  const unsigned position_blocks = positions ? blocks_for(args.L, kGroups / parts) : 0;
  const bool four = args.D % 4 == 0 && all_aligned(4 * sizeof(T), args.dy) &&
                    all_aligned(16, args.dtokens.data, args.dpositions.data);
  with_width(four, [&]<int kWidth>(std::integral_constant<int, kWidth>) {
    if (tokens && !small) backward_in_pieces<T, kWidth>(exec, rows, sorted);
    if (run_blocks + position_blocks == 0) return;
    launch("token_position_backward", token_position_backward_kernel<T, kWidth>,
           dim3(run_blocks + position_blocks, blocks_for(args.D, kLanes * kWidth)), kThreads, 0, exec.stream,
           args, rows, sorted, run_blocks, parts);
  });
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(embedding_backward, EmbeddingBackward)
WEDGE_INSTANTIATE_CUDA(token_position_backward, TokenPositionBackward)
}  // namespace wedge
