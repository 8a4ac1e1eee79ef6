// dweight[v] (+)= Σ over t with ids[t] = v of mask ∘ dy[t], in the order of t, for more ids than are ranked
// at once.
//
// Layout: a warp has kPiece neighbours of the sorted order and a tile of columns, adds each run of equal
// ids in order of t, and writes it to dweight if all of it is its own. What begins or ends beyond is a
// partial sum, two a piece at most; a second kernel adds those of one id, eight warps by turns and then
// their sums in order. One id throughout is the same work as all distinct. Bytes: dy once, the rows of
// dweight that ids name read and written, and partial sums of 1/16 of dy at most.
#include "kernels/cuda/embedding_backward.cuh"

namespace wedge::cu::scatter {
namespace {

constexpr int kUnroll = 4;
constexpr int kPieceThreads = 128, kPieceWarps = kPieceThreads / kWarp;
constexpr int kPiece = kWarp;  // sorted ids of a warp
constexpr int kTotalWarps = 8, kTotalThreads = kTotalWarps * kWarp, kTotalUnroll = 8;

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
      load_start(begins && args.dweight.add, args.dweight.data + own[k].id * args.D + d, start[j]);
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
        store(sum, args.dweight.data + own[k].id * args.D + d);
      comes = false;
    }
  }
}

// dweight of the run that begins in this piece and goes on = its sum there + those in the pieces after it.
__global__ void __launch_bounds__(kTotalThreads)
    embedding_backward_totals_kernel(std::int64_t rows, std::int64_t D, const IdAt* sorted,
                                     const float* partials, float* dweight) {
  WEDGE_SHARED(float, sums, kTotalThreads);
  const std::int64_t number = blockIdx.x;
  const Piece piece(rows, sorted, number);
  const std::int32_t id = sorted[piece.end - 1].id;
  if (!piece.goes_on || (piece.from_before && sorted[piece.begin].id == id)) return;
  // The last piece that begins with this id, number + 1 at least.
  std::int64_t last = number + 1, beyond = ceil_div(rows, kPiece);
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

}  // namespace

template <class T, int kWidth>
void backward_in_pieces(const Exec& exec, const Rows<T>& args, const IdAt* sorted) {
  const unsigned pieces = blocks_for(args.rows, kPiece);
  const Scratch<float> partials(std::int64_t{pieces} * 2 * args.D);
  launch("embedding_backward_pieces", embedding_backward_pieces_kernel<T, kWidth>,
         dim3(blocks_for(pieces, kPieceWarps), blocks_for(args.D, kWarp * kWidth)), kPieceThreads, 0,
         exec.stream, args, sorted, partials.data());
  launch("embedding_backward_totals", embedding_backward_totals_kernel,
         dim3(pieces, blocks_for(args.D, kWarp)), kTotalThreads, 0, exec.stream, args.rows, args.D, sorted,
         partials.data(), args.dweight.data);
}

template void backward_in_pieces<float, 1>(const Exec&, const Rows<float>&, const IdAt*);
template void backward_in_pieces<float, 4>(const Exec&, const Rows<float>&, const IdAt*);
template void backward_in_pieces<BFloat16, 1>(const Exec&, const Rows<BFloat16>&, const IdAt*);
template void backward_in_pieces<BFloat16, 4>(const Exec&, const Rows<BFloat16>&, const IdAt*);

}  // namespace wedge::cu::scatter
