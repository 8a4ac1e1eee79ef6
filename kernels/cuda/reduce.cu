// y[o, i] (+)= sum or maximum over k of x[o, k, i], and the gradient of the maximum.
//
// Layout: one kernel for every shape. A block is a box of G outer indices × R lanes over k × C neighbouring
// i, G · R · C = 256, thread = (g · R + r) · C + c: a warp reads neighbouring elements whether i is wide (C =
// 32: the columns of a bias gradient) or not there at all (C = 1, and R lanes go along the row). A thread
// adds every R-th k in double; its box adds over the lanes as a tree. Where that leaves too few blocks, k is
// cut into pieces whose results go through scratch memory and the same kernel again. Pieces depend on the
// sizes alone: same sizes, same order of additions, same bits. Backward of the maximum needs x and y and goes
// over x twice: to count ties, and to write. Bytes: x once, y once; the pieces' results are one for 16
// elements of x or more.
#include "kernels/reduce.h"

#include <algorithm>

#include "kernels/cuda/common.cuh"

namespace wedge::cu {
namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;
constexpr std::int64_t kBlocks = 512;        // that fill a device
constexpr std::int64_t kStepsPerPiece = 16;  // fewest elements that a thread adds before a piece is worth it

// How [outer, n, inner] is cut into boxes; a work item is one box over one piece of k.
struct Boxes {
  std::int64_t outer, n, inner;
  int groups, lanes, columns;  // G, R, C: powers of two whose product is kThreads
  std::int64_t column_blocks, outer_blocks;
  std::int64_t pieces, piece;  // pieces of k, and the length of all but the last

  std::int64_t items() const { return pieces * column_blocks * outer_blocks; }
};

Boxes boxes_for(std::int64_t outer, std::int64_t n, std::int64_t inner, bool may_cut) {
  int lanes = 1, columns = 1;
  // First what makes a warp's reads neighbours, then lanes while each still has some work, then columns.
  while (columns < kWarp && columns < inner) columns *= 2;
  while (lanes * columns < kWarp && lanes < n) lanes *= 2;
  while (lanes * columns < kThreads && lanes * 8 < n) lanes *= 2;
  while (lanes * columns < kThreads && columns < inner) columns *= 2;
  const int groups = kThreads / (lanes * columns);
  Boxes boxes{outer, n, inner, groups, lanes, columns, 0, 0, 1, n};
  boxes.column_blocks = ceil_div(inner, columns);
  boxes.outer_blocks = ceil_div(outer, groups);
  if (may_cut) {
    const std::int64_t wanted = kBlocks / std::max<std::int64_t>(1, boxes.items());
    const std::int64_t worth = n / (lanes * kStepsPerPiece);
    const std::int64_t pieces = std::max<std::int64_t>(1, std::min(wanted, worth));
    boxes.piece = std::max<std::int64_t>(1, ceil_div(n, pieces));
    boxes.pieces = std::max<std::int64_t>(1, ceil_div(n, boxes.piece));
  }
  return boxes;
}

// Where a thread is in a work item.
struct Place {
  std::int64_t o, i, piece;
  int lane;
  bool inside;
};

__device__ Place place_in(const Boxes& boxes, std::int64_t item) {
  const int thread = static_cast<int>(threadIdx.x);
  Place at;
  at.piece = item % boxes.pieces;
  item /= boxes.pieces;
  at.i = item % boxes.column_blocks * boxes.columns + thread % boxes.columns;
  at.o = item / boxes.column_blocks * boxes.groups + thread / (boxes.columns * boxes.lanes);
  at.lane = thread / boxes.columns % boxes.lanes;
  at.inside = at.o < boxes.outer && at.i < boxes.inner;
  return at;
}

template <class T>
__device__ double to_double(T x) {
  if constexpr (std::is_same_v<T, double>) {
    return x;
  } else {
    return static_cast<double>(to_float(x));
  }
}

__device__ double combine(ReduceOp op, double a, double b) {
  if (op == ReduceOp::sum) return a + b;
  return b > a || b != b ? b : a;  // NaN stays
}

// Combines over a box's lanes: afterwards lane 0 of each (group, column) has the result at
// shared[threadIdx.x]. All threads must call.
__device__ void combine_lanes(const Boxes& boxes, ReduceOp op, int lane, double mine, double* shared) {
  const int thread = static_cast<int>(threadIdx.x);
  shared[thread] = mine;
  for (int half = boxes.lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) shared[thread] = combine(op, shared[thread], shared[thread + half * boxes.columns]);
  }
}

// y[o, piece, i] (+)= over the piece. `Out` is double for the results of pieces.
template <class In, class Out>
__global__ void __launch_bounds__(kThreads)
    reduce_kernel(Boxes boxes, ReduceOp op, const In* x, Out* y, bool add, std::int64_t items) {
  WEDGE_SHARED(double, shared, kThreads);
  const double identity = op == ReduceOp::sum ? 0.0 : -static_cast<double>(INFINITY);
  for (std::int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const Place at = place_in(boxes, item);
    double sum = identity;
    if (at.inside) {
      const In* column = x + at.o * boxes.n * boxes.inner + at.i;
      const std::int64_t begin = at.piece * boxes.piece;
      const std::int64_t end = begin + boxes.piece < boxes.n ? begin + boxes.piece : boxes.n;
      std::int64_t k = begin + at.lane;
      for (; k + (kUnroll - 1) * boxes.lanes < end; k += kUnroll * boxes.lanes) {
        In loaded[kUnroll];
        for (int j = 0; j < kUnroll; ++j) loaded[j] = column[(k + j * boxes.lanes) * boxes.inner];
        for (int j = 0; j < kUnroll; ++j) sum = combine(op, sum, to_double(loaded[j]));
      }
      for (; k < end; k += boxes.lanes) sum = combine(op, sum, to_double(column[k * boxes.inner]));
    }
    combine_lanes(boxes, op, at.lane, sum, shared);
    if (at.inside && at.lane == 0) {
      Out* out = y + (at.o * boxes.pieces + at.piece) * boxes.inner + at.i;
      const double value = shared[threadIdx.x];
      if constexpr (std::is_same_v<Out, double>) {
        *out = value;
      } else {
        *out = from_float<Out>(static_cast<float>(add ? to_double(*out) + value : value));
      }
    }
    __syncthreads();  // before the next item overwrites what others may still read
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    max_backward_kernel(Boxes boxes, MaxBackward<T> args, std::int64_t items) {
  WEDGE_SHARED(double, shared, kThreads);
  for (std::int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const Place at = place_in(boxes, item);
    const std::int64_t first = at.o * boxes.n * boxes.inner + at.i;
    const float y = at.inside ? to_float(args.y[at.o * boxes.inner + at.i]) : 0.0f;
    std::int64_t ties = 0;
    if (at.inside)
      for (std::int64_t k = at.lane; k < boxes.n; k += boxes.lanes)
        ties += to_float(args.x[first + k * boxes.inner]) == y ? 1 : 0;
    combine_lanes(boxes, ReduceOp::sum, at.lane, static_cast<double>(ties), shared);
    __syncthreads();
    if (at.inside) {
      const double total = shared[static_cast<int>(threadIdx.x) - at.lane * boxes.columns];
      const float share = to_float(args.dy[at.o * boxes.inner + at.i]) / static_cast<float>(total);
      for (std::int64_t k = at.lane; k < boxes.n; k += boxes.lanes) {
        const std::int64_t i = first + k * boxes.inner;
        put(args.dx.data + i, to_float(args.x[i]) == y ? share : 0.0f, args.dx.add);
      }
    }
    __syncthreads();
  }
}

template <class In, class Out>
void launch_reduce(const Exec& exec, const Boxes& boxes, ReduceOp op, const In* x, const Sink<Out>& y) {
  launch("reduce", reduce_kernel<In, Out>, blocks_for(boxes.items(), 1), kThreads, 0, exec.stream, boxes, op,
         x, y.data, y.add, boxes.items());
}

}  // namespace

template <class T>
void reduce(const Exec& exec, const Reduce<T>& args) {
  if (args.outer == 0 || args.inner == 0) return;
  const Boxes boxes = boxes_for(args.outer, args.n, args.inner, true);
  if (boxes.pieces == 1) return launch_reduce(exec, boxes, args.op, args.x, args.y);
  const Scratch<double> parts(args.outer * boxes.pieces * args.inner);
  launch_reduce(exec, boxes, args.op, args.x, Sink<double>{parts.data()});
  const Boxes over_parts = boxes_for(args.outer, boxes.pieces, args.inner, false);
  launch_reduce(exec, over_parts, args.op, static_cast<const double*>(parts.data()), args.y);
}

template <class T>
void max_backward(const Exec& exec, const MaxBackward<T>& args) {
  if (args.outer == 0 || args.n == 0 || args.inner == 0) return;
  const Boxes boxes = boxes_for(args.outer, args.n, args.inner, false);
  launch("max_backward", max_backward_kernel<T>, blocks_for(boxes.items(), 1), kThreads, 0, exec.stream,
         boxes, args, boxes.items());
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(reduce, Reduce)
WEDGE_INSTANTIATE_CUDA(max_backward, MaxBackward)
}  // namespace wedge
