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
//   pieces  more ids. A warp has kPiece neighbours of the sorted order and a tile of columns, adds each run
//           in order of t, and writes it to dweight if all of it is its own. What begins or ends beyond is a
//           partial sum, two a piece at most; a second kernel adds those of one id, eight warps by turns and
//           then their sums in order. One id throughout is the same work as all distinct. Positions are a
//           launch of their own.
// What is added to what depends on the ids and sizes alone.
//
// Bytes: dy once for the tokens and once for the positions, and the rows of dweight that ids name, read and
// written; for pieces, partial sums of 1/16 of dy at most.
#include <optional>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/dropout_mask.cuh"
#include "kernels/cuda/sort_ids.cuh"
#include "kernels/embedding.h"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;
constexpr int kGroups = 16, kLanes = kThreads / kGroups;
constexpr int kUnroll = 4;
constexpr int kPieceThreads = 128, kPieceWarps = kPieceThreads / kWarp;
constexpr int kPiece = kWarp;  // sorted ids of a warp
constexpr int kTotalWarps = 8, kTotalThreads = kTotalWarps * kWarp, kTotalUnroll = 8;

// What is scattered, for both ways that sort.
template <class T>
struct Rows {
  std::int64_t rows, D;
  const T* dy;  // [rows, D]
  MaskSource mask;
  float* dweight;
  bool add;
};

// Columns of a row that a thread has, as float32.
template <int kWidth>
using Columns = Pack<float, kWidth>;

// sum += mask ∘ x, the product rounded as the kernel that writes it does; i: x's place in dy.
template <int kWidth, class T, class Sum>
__device__ void add_masked(const Masks& mask, std::int64_t i, const Pack<T, kWidth>& x, Sum (&sum)[kWidth]) {
  float m[kWidth];
  mask.fill(i, m);
  WEDGE_UNROLL
  for (int w = 0; w < kWidth; ++w) sum[w] += __fmul_rn(m[w], to_float(x.v[w]));
}

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

template <int kWidth>
__device__ void load_start(bool add, const float* from, float (&sum)[kWidth]) {
  Columns<kWidth> start{};
  if (add) start = *reinterpret_cast<const Columns<kWidth>*>(from);
  WEDGE_UNROLL
  for (int w = 0; w < kWidth; ++w) sum[w] = start.v[w];
}
template <int kWidth>
__device__ void store(const float (&sum)[kWidth], float* to) {
  Columns<kWidth> all;
  WEDGE_UNROLL
  for (int w = 0; w < kWidth; ++w) all.v[w] = sum[w];
  *reinterpret_cast<Columns<kWidth>*>(to) = all;
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
    float* const to = args.dweight + id * args.D + d;
    float sum[kWidth];
    load_start(args.add, to, sum);
    for (int k = 0; k < count; k += kUnroll)
      add_rows(
          args.dy, args.D, mask, d, count - k,
          [&](int j) { return static_cast<std::int64_t>(near[group + k + j].t); }, sum);
    store(sum, to);
  }
  __syncthreads();
  if (*long_run < 0) return;

  const std::int32_t long_id = near[*long_run].id;
  float* const to = args.dweight + long_id * args.D + d;
  float sum[kWidth] = {}, start[kWidth] = {};
  if (group == 0 && inside) load_start(args.add, to, start);
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
  float* const to = args.dpositions + l * args.D + d;
  float start[kWidth];
  load_start(args.dpositions_add, to, start);
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
template <class T, int kWidth>
__global__ void __launch_bounds__(kPieceThreads)
    embedding_backward_pieces_kernel(Rows<T> args, const IdAt* sorted, float* partials) {
  WEDGE_SHARED(IdAt, all, kPieceThreads);
  const int lane = lane_of_warp(), warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * kPieceWarps + warp;
  if (number * kPiece >= args.rows) return;
  const Masks mask(args.mask);
  const Piece piece(args.rows, sorted, number);
  const int count = static_cast<int>(piece.end - piece.begin);
  IdAt* const own = all + warp * kPiece;
  if (lane < count) own[lane] = sorted[piece.begin + lane];
  __syncwarp();
  const std::int64_t d = (static_cast<std::int64_t>(blockIdx.y) * kWarp + lane) * kWidth;
  if (d >= args.D) return;

  float* const partial = partials + number * 2 * args.D + d;
  bool comes = piece.from_before;  // the run that is being added
  float sum[kWidth] = {};
  for (int first = 0; first < count; first += kUnroll) {
    // Of every k all that is read, before anything is added: dy, and dweight where a run begins.
    Pack<T, kWidth> x[kUnroll];
    float start[kUnroll][kWidth];
    WEDGE_UNROLL
    for (int j = 0; j < kUnroll; ++j) {
      const int k = first + j;
      if (k >= count) continue;
      const bool begins = k == 0 ? !piece.from_before : own[k].id != own[k - 1].id;
      x[j] = *reinterpret_cast<const Pack<T, kWidth>*>(args.dy + own[k].t * args.D + d);
      load_start(begins && args.add, args.dweight + own[k].id * args.D + d, start[j]);
    }
    WEDGE_UNROLL
    for (int j = 0; j < kUnroll; ++j) {
      const int k = first + j;
      if (k >= count) continue;
      if (k == 0 || own[k].id != own[k - 1].id) {
        WEDGE_UNROLL
        for (int w = 0; w < kWidth; ++w) sum[w] = start[j][w];
      }
      add_masked(mask, own[k].t * args.D + d, x[j], sum);
      const bool last = k + 1 == count;
      if (!last && own[k + 1].id == own[k].id) continue;
      if (comes)
        store(sum, partial);
      else if (last && piece.goes_on)
        store(sum, partial + args.D);
      else
        store(sum, args.dweight + own[k].id * args.D + d);
      comes = false;
    }
  }
}

// dweight of the run that begins in this piece and goes on = its sum there + those in the pieces after it.
static __global__ void __launch_bounds__(kTotalThreads)
    embedding_backward_totals_kernel(std::int64_t rows, std::int64_t D, const IdAt* sorted,
                                     const float* partials, float* dweight) {
  WEDGE_SHARED(float, sums, kTotalThreads);
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
    for (std::int64_t at = number + thread / kWarp; at <= last; at += kTotalWarps * kTotalUnroll) {
      float x[kTotalUnroll];
      WEDGE_UNROLL
      for (int j = 0; j < kTotalUnroll; ++j) {
        const std::int64_t one = at + j * kTotalWarps;
        x[j] = one <= last ? partials[(one * 2 + (one == number ? 1 : 0)) * D + d] : 0.0f;
      }
      WEDGE_UNROLL
      for (int j = 0; j < kTotalUnroll; ++j) sum += x[j];
    }
  }
  sums[thread] = sum;
  __syncthreads();
  if (thread >= kWarp || d >= D) return;
  for (int warp = 1; warp < kTotalWarps; ++warp) sum += sums[warp * kWarp + thread];
  dweight[id * D + d] = sum;
}

template <class T, int kWidth>
void launch_pieces(const Exec& exec, const Rows<T>& args, const IdAt* sorted) {
  const unsigned pieces = blocks_for(args.rows, kPiece);
  const Scratch<float> partials(std::int64_t{pieces} * 2 * args.D);
  launch("embedding_backward_pieces", embedding_backward_pieces_kernel<T, kWidth>,
         dim3(blocks_for(pieces, kPieceWarps), blocks_for(args.D, kWarp * kWidth)), kPieceThreads, 0,
         exec.stream, args, sorted, partials.data());
  launch("embedding_backward_totals", embedding_backward_totals_kernel,
         dim3(pieces, blocks_for(args.D, kWarp)), kTotalThreads, 0, exec.stream, args.rows, args.D, sorted,
         partials.data(), args.dweight);
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
  if (!args.dweight_add) fill_with_zero(args.dweight, args.V * args.D);
  if (args.rows == 0 || args.D == 0) return;
  if (args.step > 0) {
    launch("embedding_backward_apart", embedding_backward_apart_kernel<T>,
           blocks_for(args.rows * args.D, kThreads), kThreads, 0, exec.stream, args);
    return;
  }
  const SortedIds sorted(exec, args.rows, args.V, args.ids);
  const Rows<T> rows{args.rows, args.D, args.dy, MaskSource({}), args.dweight, args.dweight_add};
  const bool four = args.D % 4 == 0 && all_aligned(4 * sizeof(T), args.dy) && all_aligned(16, args.dweight);
  with_width(four, [&]<int kWidth>(std::integral_constant<int, kWidth>) {
    if (args.rows > kRankedRows) return launch_pieces<T, kWidth>(exec, rows, sorted.data());
    launch("embedding_backward", embedding_backward_kernel<T, kWidth>,
           dim3(blocks_for(args.rows, kGroups), blocks_for(args.D, kLanes * kWidth)), kThreads, 0,
           exec.stream, rows, sorted.data());
  });
}

template <class T>
void token_position_backward(const Exec& exec, const TokenPositionBackward<T>& args) {
  const std::int64_t n = args.B * args.L;
  const bool tokens = args.dtokens != nullptr, positions = args.dpositions != nullptr;
  if (tokens && !args.dtokens_add) fill_with_zero(args.dtokens, args.V * args.D);
  if (n == 0 || args.D == 0) {
    if (positions && !args.dpositions_add) fill_with_zero(args.dpositions, args.L * args.D);
    return;
  }
  const Rows<T> rows{n, args.D, args.dy, MaskSource(args.mask), args.dtokens, args.dtokens_add};
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
                    all_aligned(16, args.dtokens, args.dpositions);
  with_width(four, [&]<int kWidth>(std::integral_constant<int, kWidth>) {
    if (tokens && !small) launch_pieces<T, kWidth>(exec, rows, sorted);
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
