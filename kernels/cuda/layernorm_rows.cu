// Layer normalisation of rows that a warp keeps in its registers, four neighbours a lane at a time (one
// Philox block, 16-byte loads). dweight, dbias and, for the bias of the layer that dx goes to, dx are summed
// by the kernel that makes dx: as many blocks as the number of rows says, each with one partial sum
// (column_sums.cuh). Bytes moved: forward reads x and the residual and writes s and y once; backward reads dy
// and s and writes dx and dresidual once, and its partials are 2 of at least 16 rows.
#include "kernels/cuda/layernorm_rows.cuh"

#include "kernels/cuda/math.cuh"

namespace wedge::cu {
namespace norm {
namespace {

// Blocks that stay, at most: those that an H100's 132 multiprocessors hold at D <= 256, so that none waits
// for the others' end. The number of backward's decides how dweight and dbias round.
constexpr std::int64_t kForwardBlocks = 528;
constexpr std::int64_t kForwardAheadBlocks = 396;
constexpr std::int64_t kBackwardBlocks = 264;
constexpr std::int64_t kBackwardRows = 16;  // of a block, at least

// A row in the registers of a warp: a lane holds columns 4 lane, ..., 4 lane + 3 of each group of 128.
template <int kGroups>
struct Row {
  Floats<4> group[kGroups];
};

constexpr int kGroup = 4 * kWarp;

// The columns that a lane has: kGroup g + `first` and the three after it, in groups g where has(g).
struct LaneColumns {
  int first = 4 * lane_of_warp(), D;

  __device__ explicit LaneColumns(std::int64_t D_) : D(static_cast<int>(D_)) {}
  __device__ bool has(int g) const { return kGroup * g + first < D; }
};

// From `p`, which is of the lane's first column; 0 beyond D.
template <int kGroups, class T>
__device__ Row<kGroups> load_row(const LaneColumns& lane, const T* p) {
  Row<kGroups> row = {};
  WEDGE_UNROLL
  for (int g = 0; g < kGroups; ++g)
    if (lane.has(g)) row.group[g] = load_floats<4>(p + kGroup * g);
  return row;
}

// x times the masks of elements `at`, the lane's first, and its others: the blocks of all groups are drawn
// together, so that their rounds overlap, where registers allow that.
template <int kGroups>
__device__ void apply_row(const LaneColumns& lane, const Masks& mask, std::int64_t at, Row<kGroups>& x) {
  if (!mask.on()) return;
  WEDGE_UNROLL
  for (int g = 0; g < kGroups; ++g)
    if (kGroups <= 4 || lane.has(g)) mask.apply(at + kGroup * g, x.group[g].v);
}

// Rows of D <= 128 kGroups elements, D a multiple of 4, every pointer to a row aligned for four: a warp keeps
// its row in registers, and reads weight and bias once. With kAhead, for warps with several rows each, the
// next row is loaded before one is used, which takes the registers of a block.
template <class T, int kGroups, bool kAhead>
__global__ void __launch_bounds__(kThreads, kAhead&& kGroups == 2 ? 3 : 8 / kGroups)
    layernorm_forward_rows_kernel(LayernormForward<T> a, MaskSource source) {
  const Masks mask(source);
  constexpr int kRows = kThreads / kWarp;
  const LaneColumns lane(a.D);
  const auto width = static_cast<float>(lane.D), eps = static_cast<float>(a.eps);
  const float each = 1 / width;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kRows;
  std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRows + warp_of_block();
  std::int64_t at = row * lane.D + lane.first;
  const auto weight = load_row<kGroups>(lane, a.weight + lane.first);
  const auto bias = load_row<kGroups>(lane, a.bias + lane.first);
  Row<kGroups> next = {}, next_residual = {};
  const auto fetch = [&](std::int64_t from) {
    next = load_row<kGroups>(lane, a.x + from);
    if (a.residual != nullptr) next_residual = load_row<kGroups>(lane, a.residual + from);
  };
  if (kAhead && row < a.rows) fetch(at);
  for (; row < a.rows; row += step, at += step * lane.D) {
    if (!kAhead) fetch(at);
    Row<kGroups> s = next;
    const Row<kGroups> residual = next_residual;
    if (kAhead && row + step < a.rows) fetch(at + step * lane.D);

    if (!a.masks_output) apply_row(lane, mask, at, s);
    float sum = 0;
    WEDGE_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      Floats<4>& x = s.group[g];
      for (int k = 0; k < 4; ++k) {
        x.v[k] += residual.group[g].v[k];
        sum += x.v[k];
      }
      if (a.s != nullptr && lane.has(g)) store(a.s + at + kGroup * g, x);
    }
    const float mean = mean_of(warp_sum(sum), width, each);

    float squares = 0;
    WEDGE_UNROLL
    for (int g = 0; g < kGroups; ++g)
      if (lane.has(g))
        for (int k = 0; k < 4; ++k) squares += (s.group[g].v[k] - mean) * (s.group[g].v[k] - mean);
    const float rstd = rsqrtf(warp_sum(squares) * each + eps);

    WEDGE_UNROLL
    for (int g = 0; g < kGroups; ++g)
      for (int k = 0; k < 4; ++k) {
        float& x = s.group[g].v[k];
        x = (x - mean) * rstd * weight.group[g].v[k] + bias.group[g].v[k];
      }
    if (a.masks_output) apply_row(lane, mask, at, s);
    WEDGE_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      if (!lane.has(g)) continue;
      store(a.y + at + kGroup * g, s.group[g]);
      if (a.y_rounded != nullptr) store(a.y_rounded + at + kGroup * g, s.group[g]);
    }
    if (lane.first == 0) {
      a.mean[row] = mean;
      a.rstd[row] = rstd;
    }
  }
}

// Up to this many groups a row's thread has the registers for the sums of dx as well.
constexpr int kMostSummed = 4;

// The same rows, of which the next one is loaded before one is used: a block has more of them. A lane adds up
// dweight, dbias and dx of its columns over the rows of its warp on the way; the warps of the block are added
// in order: partials [blocks, 2, D] of the first two, a.dx_sums [blocks, D], or null where nobody asks.
template <class T, int kGroups>
__global__ void __launch_bounds__(kThreads, kGroups == 2 ? 2 : 1)
    layernorm_backward_rows_kernel(LayernormBackward<T> a, MaskSource source, float* partials) {
  constexpr int kRows = kThreads / kWarp;
  constexpr bool kAhead = kGroups <= 4;  // beyond, the registers hold one row
  const LaneColumns lane(a.D);
  const float each = 1 / static_cast<float>(lane.D);
  const int warp = warp_of_block();
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kRows;
  std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRows + warp;
  std::int64_t at = row * lane.D + lane.first;
  Row<kGroups> dweight = {}, dbias = {}, dx_sums = {}, next_dy = {}, next_s = {};
  float next_mean = 0, next_rstd = 0;
  const auto fetch = [&](std::int64_t r, std::int64_t from) {
    next_dy = load_row<kGroups>(lane, a.dy + from);
    next_s = load_row<kGroups>(lane, a.s + from);
    next_mean = a.mean[r];
    next_rstd = a.rstd[r];
  };
  if (kAhead && row < a.rows) fetch(row, at);
  const auto weight = load_row<kGroups>(lane, a.weight + lane.first);
  for (; row < a.rows; row += step, at += step * lane.D) {
    if (!kAhead) fetch(row, at);
    Row<kGroups> dy = next_dy;
    Row<kGroups> xhat = next_s;
    const float mean = next_mean, rstd = next_rstd;
    Row<kGroups> old_dresidual = {}, old_dx = {};
    if (kAhead && a.dresidual && a.dresidual.add)
      old_dresidual = load_row<kGroups>(lane, a.dresidual.data + at);
    if (kAhead && a.dx && a.dx.add) old_dx = load_row<kGroups>(lane, a.dx.data + at);
    if (kAhead && row + step < a.rows) fetch(row + step, at + step * lane.D);

    const Masks mask(source);  // here, where it takes registers for a moment
    if (a.masks_output) apply_row(lane, mask, at, dy);
    float means[2] = {};  // of the gradient of xhat, and of that times xhat
    WEDGE_UNROLL
    for (int g = 0; g < kGroups; ++g)
      for (int k = 0; k < 4; ++k) {
        float& d = dy.group[g].v[k];
        float& x = xhat.group[g].v[k];
        x = (x - mean) * rstd;
        dweight.group[g].v[k] += d * x;
        dbias.group[g].v[k] += d;
        d *= weight.group[g].v[k];
        means[0] += d;
        means[1] += d * x;
      }
    warp_sums(means);
    for (float& m : means) m *= each;

    WEDGE_UNROLL
    for (int g = 0; g < kGroups; ++g)
      for (int k = 0; k < 4; ++k) {
        float& ds = dy.group[g].v[k];
        ds = rstd * (ds - means[0] - xhat.group[g].v[k] * means[1]);
      }
    if (a.dresidual) {
      WEDGE_UNROLL
      for (int g = 0; g < kGroups; ++g) {
        const std::int64_t c = at + kGroup * g;
        if (!lane.has(g)) continue;
        if (!kAhead && a.dresidual.add) old_dresidual.group[g] = load_floats<4>(a.dresidual.data + c);
        Floats<4> sum = dy.group[g];
        for (int k = 0; k < 4; ++k) sum.v[k] += old_dresidual.group[g].v[k];
        store(a.dresidual.data + c, sum);
      }
    }
    if (!a.dx && a.dx_rounded == nullptr) continue;
    if (!a.masks_output) apply_row(lane, mask, at, dy);
    WEDGE_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      const std::int64_t c = at + kGroup * g;
      if (!lane.has(g)) continue;
      Floats<4>& dx = dy.group[g];
      // x and the residual may be one variable.
      if (a.dx.add && a.dx && (!kAhead || a.dx.data == a.dresidual.data))
        old_dx.group[g] = load_floats<4>(a.dx.data + c);
      for (int k = 0; k < 4; ++k) {
        dx.v[k] += old_dx.group[g].v[k];
        if (kGroups <= kMostSummed) dx_sums.group[g].v[k] += dx.v[k];
      }
      if (a.dx) store(a.dx.data + c, dx);
      if (a.dx_rounded != nullptr) store(a.dx_rounded + c, dx);
    }
  }
  const bool sums_dx = kGroups <= kMostSummed && a.dx_sums != nullptr;
  if (partials == nullptr && !sums_dx) return;

  constexpr int kPitch = 3 * kGroup;
  WEDGE_SHARED(float, terms, kRows* kPitch);
  WEDGE_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    float* const mine = terms + warp * kPitch + lane.first;
    store(mine, dweight.group[g]);
    store(mine + kGroup, dbias.group[g]);
    if (sums_dx) store(mine + 2 * kGroup, dx_sums.group[g]);
    __syncthreads();
    static_assert(kThreads == 2 * kGroup);  // a thread for each column and sum, and for dx's those of dweight
    const int which = static_cast<int>(threadIdx.x) / kGroup;
    const std::int64_t column = g * kGroup + static_cast<int>(threadIdx.x) % kGroup;
    const auto total = [&](int at) {
      float sum = 0;
      for (int w = 0; w < kRows; ++w) sum += terms[w * kPitch + at];
      return sum;
    };
    const std::int64_t block = blockIdx.x;
    if (partials != nullptr && column < a.D)
      partials[(block * 2 + which) * a.D + column] = total(static_cast<int>(threadIdx.x));
    if (sums_dx && which == 0 && column < a.D)
      a.dx_sums[block * a.D + column] = total(2 * kGroup + static_cast<int>(threadIdx.x));
    __syncthreads();
  }
}

template <class T>
bool is_row_of_warp(const LayernormBackward<T>& a) {
  return a.D <= kWarpWidth && four_backward(a);
}
unsigned backward_blocks(std::int64_t rows) {
  return rows > 0 ? blocks_for(rows, kBackwardRows, kBackwardBlocks) : 1u;
}

// Calls go.operator()<kGroups>() with the groups of 128 columns that hold D <= kWarpWidth.
template <class Go>
void choose_groups(std::int64_t D, Go&& go) {
  D <= 256   ? go.template operator()<2>()
  : D <= 512 ? go.template operator()<4>()
             : go.template operator()<8>();
}

}  // namespace

template <class T>
bool forward_in_rows(const Exec& exec, const LayernormForward<T>& args) {
  if (args.D > kWarpWidth || !four_forward(args)) return false;
  // Rows of 8 groups of columns leave no registers for another.
  const bool ahead = args.rows > kForwardBlocks * (kThreads / kWarp) && args.D <= kWarpWidth / 2;
  choose_groups(args.D, [&]<int kGroups>() {
    const auto go = [&](auto kernel, std::int64_t blocks) {
      launch("layernorm_forward", kernel, dim3(blocks_for(args.rows, kThreads / kWarp, blocks)), kThreads, 0,
             exec.stream, args, MaskSource(args.mask));
    };
    if constexpr (kGroups <= 4)
      if (ahead) return go(layernorm_forward_rows_kernel<T, kGroups, true>, kForwardAheadBlocks);
    go(layernorm_forward_rows_kernel<T, kGroups, false>, kForwardBlocks);
  });
  return true;
}

template <class T>
bool backward_in_rows(const Exec& exec, const LayernormBackward<T>& args) {
  if (!is_row_of_warp(args)) return false;
  const bool parameters = args.dweight || args.dbias;
  const unsigned blocks = backward_blocks(args.rows);
  const ColumnPartials<2> sums(parameters ? blocks : 0, args.D);
  choose_groups(args.D, [&]<int kGroups>() {
    launch("layernorm_backward", layernorm_backward_rows_kernel<T, kGroups>, dim3(blocks), kThreads, 0,
           exec.stream, args, MaskSource(args.mask), parameters ? sums.data() : nullptr);
  });
  if (parameters) add_up_parameters(exec, args, sums);
  return true;
}

#define WEDGE_INSTANTIATE(T)                                              \
  template bool forward_in_rows(const Exec&, const LayernormForward<T>&); \
  template bool backward_in_rows(const Exec&, const LayernormBackward<T>&);
WEDGE_INSTANTIATE(float)
WEDGE_INSTANTIATE(BFloat16)

}  // namespace norm

template <class T>
std::int64_t layernorm_dx_pieces(const LayernormBackward<T>& args) {
  const bool summed = args.dx && args.D > 0 && args.D <= norm::kMostSummed * 4 * kWarp;
  return summed && norm::is_row_of_warp(args) ? norm::backward_blocks(args.rows) : 0;
}

template std::int64_t layernorm_dx_pieces(const LayernormBackward<float>&);
template std::int64_t layernorm_dx_pieces(const LayernormBackward<BFloat16>&);

}  // namespace wedge::cu
