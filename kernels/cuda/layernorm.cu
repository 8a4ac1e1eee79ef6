//   forward   s = residual + mask · x;  y = (s - mean) · rstd · weight + bias, or the mask on y
//   backward  ds = rstd (g - mean(g) - x̂ mean(g x̂)),  x̂ = (s - mean) rstd,  g = dy · weight
//             dresidual = ds;  dx = mask · ds;  dweight = Σ dy x̂;  dbias = Σ dy
// Backward needs s, mean and rstd.
//
// Layout: a warp a row up to D = 1024, a block a row beyond. Rows that a warp takes in fours are in
// layernorm_rows.cu. Here the row of s waits in shared memory between its mean, its variance and its use, or
// is made again where it is too long for that; backward reads dy and s for dx and dresidual, the second time
// from L1, and in a kernel of its own, that walks column tiles, for dweight and dbias.
#include "kernels/cuda/layernorm_rows.cuh"

namespace wedge::cu {
namespace {

using namespace norm;

constexpr std::int64_t kStageBytes = 96 * 1024;  // of shared memory, at most

// The sum over the warp or the block that shares a row.
template <int kTeam>
__device__ float team_sum(float x) {
  if constexpr (kTeam == kWarp) {
    return warp_sum(x);
  } else {
    WEDGE_SHARED(float, scratch, kWarp);
    return block_sum(x, scratch);
  }
}

// This thread's rows and, in each, its columns: `column`, then every `kTeam * kWidth`-th.
template <int kTeam, int kWidth>
struct Place {
  static constexpr int kRows = kThreads / kTeam, kStep = kTeam * kWidth;
  std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRows + threadIdx.x / kTeam;
  std::int64_t row_step = static_cast<std::int64_t>(gridDim.x) * kRows;
  std::int64_t column = threadIdx.x % kTeam * kWidth;
};

template <class T, int kTeam, int kWidth>
__global__ void __launch_bounds__(kThreads)
    layernorm_forward_kernel(LayernormForward<T> a, MaskSource source, bool staged) {
  const Masks mask(source);
  const Place<kTeam, kWidth> place;
  const auto width = static_cast<float>(a.D), eps = static_cast<float>(a.eps);
  float* const stage = staged ? dynamic_shared<float>() + threadIdx.x / kTeam * a.D : nullptr;
  for (std::int64_t row = place.row; row < a.rows; row += place.row_step) {
    const std::int64_t at = row * a.D;
    const auto make = [&](std::int64_t c) {
      Floats<kWidth> s = load_floats<kWidth>(a.x + at + c);
      if (mask.on() && !a.masks_output) mask.apply(at + c, s.v);
      if (a.residual != nullptr) {
        const Floats<kWidth> residual = load_floats<kWidth>(a.residual + at + c);
        for (int k = 0; k < kWidth; ++k) s.v[k] += residual.v[k];
      }
      return s;
    };
    const auto again = [&](std::int64_t c) { return staged ? load_floats<kWidth>(stage + c) : make(c); };

    float sum = 0;
    for (std::int64_t c = place.column; c < a.D; c += place.kStep) {
      const Floats<kWidth> s = make(c);
      if (staged) store(stage + c, s);
      if (a.s != nullptr) store(a.s + at + c, s);
      for (int k = 0; k < kWidth; ++k) sum += s.v[k];
    }
    const float mean = team_sum<kTeam>(sum) / width;

    float squares = 0;
    for (std::int64_t c = place.column; c < a.D; c += place.kStep) {
      const Floats<kWidth> s = again(c);
      for (int k = 0; k < kWidth; ++k) squares += (s.v[k] - mean) * (s.v[k] - mean);
    }
    const float rstd = 1 / sqrtf(team_sum<kTeam>(squares) / width + eps);

    for (std::int64_t c = place.column; c < a.D; c += place.kStep) {
      const Floats<kWidth> s = again(c), weight = load_floats<kWidth>(a.weight + c),
                           bias = load_floats<kWidth>(a.bias + c);
      Floats<kWidth> y;
      for (int k = 0; k < kWidth; ++k) y.v[k] = (s.v[k] - mean) * rstd * weight.v[k] + bias.v[k];
      if (mask.on() && a.masks_output) mask.apply(at + c, y.v);
      store(a.y + at + c, y);
      if (a.y_rounded != nullptr) store(a.y_rounded + at + c, y);
    }
    if (place.column == 0) {
      a.mean[row] = mean;
      a.rstd[row] = rstd;
    }
  }
}

template <class T, int kTeam, int kWidth>
__global__ void __launch_bounds__(kThreads)
    layernorm_backward_kernel(LayernormBackward<T> a, MaskSource source) {
  const Masks mask(source);
  const Place<kTeam, kWidth> place;
  const auto width = static_cast<float>(a.D);
  for (std::int64_t row = place.row; row < a.rows; row += place.row_step) {
    const std::int64_t at = row * a.D;
    const float mean = a.mean[row], rstd = a.rstd[row];
    const auto make = [&](std::int64_t c, Floats<kWidth>& g, Floats<kWidth>& xhat) {
      const Floats<kWidth> weight = load_floats<kWidth>(a.weight + c), s = load_floats<kWidth>(a.s + at + c);
      Floats<kWidth> dy = load_floats<kWidth>(a.dy + at + c);
      if (mask.on() && a.masks_output) mask.apply(at + c, dy.v);
      for (int k = 0; k < kWidth; ++k) {
        g.v[k] = dy.v[k] * weight.v[k];
        xhat.v[k] = (s.v[k] - mean) * rstd;
      }
    };
    Floats<kWidth> g, xhat;
    float sum_g = 0, sum_gx = 0;
    for (std::int64_t c = place.column; c < a.D; c += place.kStep) {
      make(c, g, xhat);
      for (int k = 0; k < kWidth; ++k) {
        sum_g += g.v[k];
        sum_gx += g.v[k] * xhat.v[k];
      }
    }
    const float mean_g = team_sum<kTeam>(sum_g) / width, mean_gx = team_sum<kTeam>(sum_gx) / width;
    for (std::int64_t c = place.column; c < a.D; c += place.kStep) {
      make(c, g, xhat);
      Floats<kWidth> ds;
      for (int k = 0; k < kWidth; ++k) ds.v[k] = rstd * (g.v[k] - mean_g - xhat.v[k] * mean_gx);
      if (a.dresidual) store(a.dresidual.data + at + c, ds, a.dresidual.add);
      if (!a.dx && a.dx_rounded == nullptr) continue;
      if (mask.on() && !a.masks_output) mask.apply(at + c, ds.v);
      if (a.dx) ds = store(a.dx.data + at + c, ds, a.dx.add);
      if (a.dx_rounded != nullptr) store(a.dx_rounded + at + c, ds);
    }
  }
}

template <class T>
__global__ void layernorm_parameters_kernel(LayernormBackward<T> a, MaskSource source, float* partials) {
  const Masks mask(source);
  const ColumnTile<> tile(a.rows, a.D);
  float dweight = 0, dbias = 0;
  for (std::int64_t row = tile.first; row < tile.end; row += kTileWarps) {
    const std::int64_t at = row * a.D + tile.column;
    const float dy = to_float(a.dy[at]) * (a.masks_output ? mask.at(at) : 1.0f);
    dweight += dy * ((to_float(a.s[at]) - a.mean[row]) * a.rstd[row]);
    dbias += dy;
  }
  tile.sum(dweight, partials, 0, 2);
  tile.sum(dbias, partials, 1, 2);
}

// Calls go.operator()<kTeam, kWidth>(grid) with the layout for the other rows.
template <class Go>
void choose_team(std::int64_t rows, std::int64_t D, bool four, Go&& go) {
  if (D <= kWarpWidth) {
    go.template operator()<kWarp, 1>(dim3(blocks_for(rows, kThreads / kWarp)));
  } else {
    const dim3 blocks(blocks_for(rows, 1));
    four ? go.template operator()<kThreads, 4>(blocks) : go.template operator()<kThreads, 1>(blocks);
  }
}

}  // namespace

template <class T>
void layernorm_forward(const Exec& exec, const LayernormForward<T>& args) {
  if (args.rows == 0) return;
  if (norm::forward_in_rows(exec, args)) return;
  const std::int64_t row_bytes = args.D * static_cast<std::int64_t>(sizeof(float));
  const bool staged = row_bytes <= kStageBytes;
  choose_team(args.rows, args.D, four_forward(args), [&]<int kTeam, int kWidth>(dim3 grid) {
    const std::int64_t bytes = staged ? row_bytes * (kThreads / kTeam) : 0;
    launch("layernorm_forward", layernorm_forward_kernel<T, kTeam, kWidth>, grid, kThreads,
           static_cast<std::size_t>(bytes), exec.stream, args, MaskSource(args.mask), staged);
  });
}

template <class T>
void layernorm_backward(const Exec& exec, const LayernormBackward<T>& args) {
  if (args.D == 0) return;
  const bool inputs = args.dx || args.dx_rounded != nullptr || args.dresidual;
  const bool parameters = args.dweight || args.dbias;
  if (!inputs && !parameters) return;
  if (norm::backward_in_rows(exec, args)) return;
  if (args.rows > 0 && inputs)
    choose_team(args.rows, args.D, four_backward(args), [&]<int kTeam, int kWidth>(dim3 grid) {
      launch("layernorm_backward", layernorm_backward_kernel<T, kTeam, kWidth>, grid, kThreads, 0,
             exec.stream, args, MaskSource(args.mask));
    });
  if (!parameters) return;
  const ColumnSums<2> sums(args.rows, args.D);
  launch("layernorm_parameters", layernorm_parameters_kernel<T>, sums.grid(), kTileThreads, 0, exec.stream,
         args, MaskSource(args.mask), sums.partials());
  norm::add_up_parameters(exec, args, sums);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(layernorm_forward, LayernormForward)
WEDGE_INSTANTIATE_CUDA(layernorm_backward, LayernormBackward)
}  // namespace wedge
