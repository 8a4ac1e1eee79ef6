// plucker_linear's products on tensor cores, in bfloat16 and in float32 with products in bfloat16, beside
// sums in float64 over the very features and factors that are multiplied: those of the s that the GPU found,
// rounded once. What is left to differ is the order of float32 sums, and once in some 10,000 features a
// rounding that falls to the other side.
#include "kernels/plucker_linear.h"
#include "tests/cases/case.h"
#include "tests/gpu/kernel_check.h"

using namespace wedge;
using namespace wedge::test;
using cases::Draw;

namespace {

constexpr Bound kRoundedFeatures{4e-3, 1e-4};  // of the products of unrounded features, rms would be 1e-3

struct Size {
  std::int64_t B, L, R, D;
  std::vector<std::int64_t> lags;
  std::int64_t shift = 0;  // of z, in elements, from where allocations start

  std::int64_t rows() const { return B * L; }
  std::int64_t features() const { return R * (R - 1) / 2; }
  // A call of these sizes, of no pointers yet.
  template <class Call>
  Call call() const {
    Call args{};
    args.B = B, args.L = L, args.R = R, args.D = D, args.lags = lags;
    return args;
  }
};

double rounded(double x) {
  return static_cast<double>(BFloat16(static_cast<float>(x)));
}

std::vector<double> rounded_features(const Size& n, const std::vector<double>& z,
                                     const std::vector<double>& s) {
  std::vector<double> f;
  for (std::int64_t row = 0; row < n.rows(); ++row) {
    const double *const zt = &z[static_cast<std::size_t>(row * n.R)],
                        *const st = &s[static_cast<std::size_t>(row * n.R)];
    for (std::int64_t i = 0; i < n.R; ++i)
      for (std::int64_t j = i + 1; j < n.R; ++j) f.push_back(rounded(zt[i] * st[j] - zt[j] * st[i]));
  }
  return f;
}

// What a forward pass leaves for backward.
template <class OnGpu>
Operand states(const Size& n, const Operand& z) {
  const Operand s(Tensor::zeros({n.B, n.L, n.R}, DType::f64)), g(Tensor::zeros({n.B, n.L, n.D}, DType::f64)),
      weight(Tensor::zeros({n.D, n.features()}, DType::f64));
  const Side<double> on{{Device::cpu}};
  plucker_linear_forward<double>(on.exec,
                                 {n.B, n.L, n.R, n.D, n.lags, on(z), on(weight), nullptr, on(s), on(g)});
  return Operand(s.on(Device::cpu), dtype_of<OnGpu>);
}

template <class OnGpu>
void check_forward(const Size& n, std::initializer_list<bool> with_biases = {false, true}) {
  constexpr bool kRounds = std::is_same_v<OnGpu, float>;
  Draw draw(11, DType::f64);
  const std::int64_t P = n.features();
  const Operand z = Operand(draw.normal({n.B, n.L, n.R}), dtype_of<OnGpu>).shifted(n.shift);
  const Tensor weight_values = draw.normal({n.D, P}, 1 / std::sqrt(static_cast<double>(P)));
  const Operand weight = factor<OnGpu>(weight_values);
  for (const bool with_bias : with_biases) {
    CAPTURE(with_bias);
    const Operand bias = with_bias ? Operand(draw.normal({n.D}, 0.1), dtype_of<OnGpu>) : Operand();
    const Operand s("s", unset({n.B, n.L, n.R}), kRounds ? kFloat32 : naive(5), dtype_of<OnGpu>);
    const Operand g("g", unset({n.B, n.L, n.D}), kRounds ? kRoundedFeatures : naive(1), dtype_of<OnGpu>);
    check_kernel<OnGpu>({&s, &g},
                        [&]<class T>(const Side<T>& on) {
                          auto args = n.call<PluckerLinearForward<T>>();
                          args.z = on(z), args.weight = on(weight), args.bias = on(bias), args.s = on(s),
                          args.g = on(g);
                          plucker_linear_forward<T>(on.exec, args);
                          if constexpr (std::is_same_v<T, double>) {
                            const std::vector<double> f = rounded_features(n, z.on(Device::cuda).to_vector(),
                                                                           s.on(Device::cuda).to_vector());
                            const double *const w = on(weight), *const b = on(bias);
                            double* out = on(g);
                            for (std::int64_t row = 0; row < n.rows(); ++row)
                              for (std::int64_t d = 0; d < n.D; ++d) {
                                double sum = with_bias ? b[d] : 0;
                                for (std::int64_t p = 0; p < P; ++p)
                                  sum += f[static_cast<std::size_t>(row * P + p)] * w[d * P + p];
                                *out++ = sum;
                              }
                          }
                        },
                        {.bf16_products = kRounds});
  }
}

template <class OnGpu>
void check_backward(const Size& n, std::initializer_list<bool> adds = {false, true}) {
  constexpr bool kRounds = std::is_same_v<OnGpu, float>;
  Draw draw(12, DType::f64);
  const std::int64_t P = n.features();
  const Operand z = Operand(draw.normal({n.B, n.L, n.R}), dtype_of<OnGpu>).shifted(n.shift);
  const Operand s = states<OnGpu>(n, z);
  const Tensor weight_values = draw.normal({n.D, P}, 1 / std::sqrt(static_cast<double>(P)));
  const Tensor dg_values = draw.normal({n.B, n.L, n.D});
  const Operand weight = factor<OnGpu>(weight_values), dg = factor<OnGpu>(dg_values);
  for (const bool add : adds) {
    CAPTURE(add);
    const Operand dz("dz", before(add, draw.normal({n.B, n.L, n.R})), kRounds ? kFloat32 : naive(8 + add),
                     dtype_of<OnGpu>);
    const Operand dweight("dweight", before(add, draw.normal({n.D, P})), kRoundedFeatures, DType::f32);
    const Operand dbias("dbias", before(add, draw.normal({n.D})), kFloat32, DType::f32), none;
    check_kernel<OnGpu>(
        {&dz, &dweight, &dbias},
        [&]<class T>(const Side<T>& on) {
          const bool of_weight = !std::is_same_v<T, double>;
          auto args = n.call<PluckerLinearBackward<T>>();
          args.z = on(z), args.s = on(s), args.weight = on(weight), args.dg = on(dg);
          args.dz = {on(dz), add}, args.dweight = {on(of_weight ? dweight : none), add},
          args.dbias = {on(of_weight ? dbias : none), add};
          plucker_linear_backward<T>(on.exec, args);
          if constexpr (std::is_same_v<T, double>) {
            const std::vector<double> f =
                rounded_features(n, z.on(Device::cuda).to_vector(), s.on(Device::cuda).to_vector());
            const double* const g = on(dg);
            double *dw = on(dweight), *db = on(dbias);
            const auto sum_of_rows = [&](const auto& value, double start) {
              double sum = add ? start : 0;
              for (std::int64_t row = 0; row < n.rows(); ++row) sum += value(row);
              return sum;
            };
            const std::vector<double> full = dg.on(Device::cuda).to_vector();  // dbias rounds nothing
            for (std::int64_t d = 0; d < n.D; ++d, ++db) {
              *db = sum_of_rows(
                  [&](std::int64_t row) { return full[static_cast<std::size_t>(row * n.D + d)]; }, *db);
              for (std::int64_t p = 0; p < P; ++p, ++dw)
                *dw = sum_of_rows(
                    [&](std::int64_t row) {
                      return g[row * n.D + d] * f[static_cast<std::size_t>(row * P + p)];
                    },
                    *dw);
            }
          }
        },
        {.bf16_products = kRounds});
  }
}

void check_all(const Size& n) {
  CAPTURE(n.B, n.L, n.R, n.D);
  check_forward<BFloat16>(n);
  check_forward<float>(n);
  check_backward<BFloat16>(n);
  check_backward<float>(n);
}

}  // namespace

TEST_CASE("gpu: plucker_linear on tensor cores", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  // Pairs in 1 to 16 steps of the ring; R = 17 and 24 leave places of it empty, 18 and more wrap around it.
  // Rows and columns that fill tiles, exceed them by one, and are odd; lags beyond a sequence.
  check_all({1, 64, 32, 128, {1, 2, 4, 8, 12, 16}});
  check_all({2, 35, 32, 131, {1, 2, 4, 8, 12, 16}});
  check_all({1, 1, 32, 8, {1}});
  check_all({1, 35, 32, 16, {1, 2}, 1});
  check_all({3, 7, 8, 24, {1, 2, 9}});
  check_all({1, 65, 16, 9, {3}});
  check_all({1, 20, 17, 6, {1, 5}});
  check_all({1, 33, 24, 5, {2, 40}});
  check_all({2, 17, 32, 12, {1, 2, 3, 5, 6, 8, 9, 16}});  // more lags than are looked at together
  check_all({2, 5, 3, 3, {1}});
}

TEST_CASE("gpu: plucker_linear's gradient of many rows", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  check_backward<float>({3, 171, 20, 130, {1, 2, 4}}, {false});  // two pieces of rows, two tiles of columns
  check_backward<BFloat16>({1, 3, 4, 1030, {1}}, {false});       // dg too wide for shared memory
}

namespace {

// Beside the composition in float64, of features that are not rounded, for any R.
void check_composition(const Size& n, const Operand& z, Draw& draw) {
  const std::int64_t P = n.features();
  const Shape reduced = {n.B, n.L, n.R}, wide = {n.B, n.L, n.D};
  const Operand weight(draw.normal({n.D, P}, 1 / std::sqrt(static_cast<double>(P + 1))));
  for (const bool with_bias : {false, true}) {
    CAPTURE(with_bias);
    const Operand bias = with_bias ? Operand(draw.normal({n.D}, 0.1)) : Operand();
    // z / ‖z‖, a ·, v -, w / (n N), sum over lags
    const Operand s("s", unset(reduced), naive(5));
    // z ∧ s: ·, -; the product; + bias
    const Operand g("g", unset(wide), naive(5 + 3 + with_bias));
    check_kernel({&s, &g}, [&]<class T>(const Side<T>& on) {
      auto args = n.call<PluckerLinearForward<T>>();
      args.z = on(z), args.weight = on(weight), args.bias = on(bias), args.s = on(s), args.g = on(g);
      plucker_linear_forward<T>(on.exec, args);
    });
    const Operand kept(s.on(Device::cpu)), dg(draw.normal(wide));
    for (const bool add : {false, true}) {
      CAPTURE(add);
      // z / ‖z‖, a ·, v -, w / ‖w‖, q·ŵ ·, q -, / ‖w‖, sum over lags
      const Operand dz("dz", before(add, draw.normal(reduced)), naive(8 + add));
      // z ∧ s: ·, -; on tensor cores it is rounded
      const Operand dweight("dweight", before(add, draw.normal({n.D, P})), n.R <= 32 ? naive(2) : kFloat32,
                            DType::f32);
      const Operand dbias =
          with_bias ? Operand("dbias", before(add, draw.normal({n.D})), kFloat32, DType::f32) : Operand();
      check_kernel({&dz, &dweight, &dbias}, [&]<class T>(const Side<T>& on) {
        auto args = n.call<PluckerLinearBackward<T>>();
        args.z = on(z), args.s = on(kept), args.weight = on(weight), args.dg = on(dg);
        args.dz = {on(dz), add}, args.dweight = {on(dweight), add}, args.dbias = {on(dbias), add};
        plucker_linear_backward<T>(on.exec, args);
      });
    }
  }
}

}  // namespace

TEST_CASE("gpu: plucker_linear in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  for (const Size& n : {Size{2, 9, 5, 7, {1, 2, 4}},
                        {1, 70, 33, 65, {1, 3}},
                        {3, 100, 8, 16, {1, 2, 4, 8, 12, 16}},  // dweight in two pieces
                        {1, 66, 182, 3, {1, 70}}}) {            // dF in two chunks
    CAPTURE(n.B, n.L, n.R, n.D);
    Draw draw(4, DType::f64);
    check_composition(n, Operand(draw.normal({n.B, n.L, n.R})), draw);
  }
}

// Twice the same state, its double and zero: vectors whose w counts as 0, in bfloat16 as in float64.
TEST_CASE("gpu: plucker_linear of parallel states in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  Draw draw(5, DType::f64);
  const Tensor z = in_bf16(draw.normal({1, 6, 9}));
  for (std::int64_t i = 0; i < 9; ++i) {
    double* const column = z.data<double>() + i;
    column[2 * 9] = column[9];
    column[3 * 9] = 2 * column[9];
    column[4 * 9] = 0;
  }
  check_composition({1, 6, 9, 4, {1, 2}}, Operand(z), draw);
}

// Whatever the GPU's approximate roots and quotients are off by.
TEST_CASE("gpu: plucker_linear of a state and its multiples is zero", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  const std::int64_t L = 600;
  for (const std::int64_t R : {3, 8, 16, 32}) {
    CAPTURE(R);
    Draw draw(7, DType::f64);
    Tensor z = draw.normal({1, L, R});
    const double factors[] = {1, 3, 0.7, -1.3};
    for (std::int64_t t = 1; t < L; t += 2)
      for (std::int64_t i = 0; i < R; ++i) {
        double* const at = z.data<double>() + t * R + i;
        *at = static_cast<double>(static_cast<float>(factors[t / 2 % 4]) * static_cast<float>(at[-R]));
      }
    const Tensor weight = draw.normal({4, R * (R - 1) / 2}).to(DType::f32).to(Device::cuda),
                 bias = Tensor::zeros({4}, DType::f32, Device::cuda);
    const Bf16ProductsGuard reduced;
    const auto g =
        plucker_linear(Variable(z.to(DType::f32).to(Device::cuda)), Variable(weight), Variable(bias), {1})
            .value()
            .to_vector();
    int seen = 0;
    for (std::size_t t = 1; t < static_cast<std::size_t>(L); ++t)
      for (std::size_t c = 0; c < 4; ++c) {
        if (t % 2 == 1) CHECK(g[4 * t + c] == 0);
        seen += t % 2 == 0 && g[4 * t + c] != 0;
      }
    CHECK(seen > L);
  }
}

namespace {

// A function of the rows of z, dg or whatever, made of whole sequences.
struct ManySequences {
  Size n;
  bool same_order = true;  // in which few rows' blocks and many rows' add
  Draw draw{13, DType::f64};
  Exec exec{.device = Device::cuda, .stream = cu::stream()};

  Tensor rows_of(std::int64_t width) { return on_gpu({n.rows(), width}, 1); }
  Tensor on_gpu(const Shape& shape, double scale) {
    return draw.normal(shape, scale).to(DType::bf16).to(Device::cuda);
  }
  // `sequences` of them each in a call of its own, make(first row, B) -> [B · L, ...].
  template <class Make>
  void check(std::int64_t sequences, const Make& make) const {
    const auto rows = [&](std::int64_t first, std::int64_t count) {
      return make(first * n.L, count).reshape({count, -1});
    };
    check_rows_alone(n.B, sequences, rows, same_order);
  }
};

void check_rows_of_gradient(const Size& size) {
  ManySequences m{size, false};
  const Size& n = m.n;
  const Tensor z = m.rows_of(n.R), dg = m.rows_of(n.D), weight = m.on_gpu({n.D, n.features()}, 0.1);
  const Tensor s = m.rows_of(n.R);  // any
  m.check(27, [&](std::int64_t first, std::int64_t B) {
    Tensor dz = Tensor::full({B * n.L, n.R}, NAN, DType::bf16, Device::cuda);
    auto args = n.call<PluckerLinearBackward<BFloat16>>();
    args.B = B, args.z = z.data<BFloat16>() + first * n.R, args.s = s.data<BFloat16>() + first * n.R;
    args.weight = weight.data<BFloat16>(), args.dg = dg.data<BFloat16>() + first * n.D;
    args.dz = {dz.data<BFloat16>()};
    plucker_linear_backward<BFloat16>(m.exec, args);
    return dz;
  });
}

}  // namespace

// 60 tiles of 128 rows, the last of them with three, times two of 256 columns, the last of them with eight.
TEST_CASE("gpu: plucker_linear's rows are the same in large tiles and in small ones", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  ManySequences m{{1511, 5, 8, 264, {1, 3}}};
  const Size& n = m.n;
  const Tensor z = m.rows_of(n.R), weight = m.on_gpu({n.D, n.features()}, 0.1), bias = m.on_gpu({n.D}, 1);
  m.check(27, [&](std::int64_t first, std::int64_t B) {
    Tensor g = Tensor::full({B * n.L, n.D}, NAN, DType::bf16, Device::cuda);
    Tensor s = Tensor::empty({B * n.L, n.R}, DType::bf16, Device::cuda);
    auto args = n.call<PluckerLinearForward<BFloat16>>();
    args.B = B, args.z = z.data<BFloat16>() + first * n.R, args.weight = weight.data<BFloat16>();
    args.bias = bias.data<BFloat16>(), args.s = s.data<BFloat16>(), args.g = g.data<BFloat16>();
    plucker_linear_forward<BFloat16>(m.exec, args);
    return g;
  });
}

// 121 blocks of 128 rows, the last of them with five, and columns of which the last tile of 64 has eight.
TEST_CASE("gpu: plucker_linear's gradients are the same in large blocks and in small ones", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  check_rows_of_gradient({3073, 5, 8, 72, {1, 3}});
}

namespace {

template <class T>
void check_kept_weight(const Size& n) {
  Draw draw(14, DType::f64);
  const Exec exec{.device = Device::cuda, .stream = cu::stream(), .bf16_products = true};
  const auto on_gpu = [&](const Shape& shape) { return draw.normal(shape).to(dtype_of<T>).to(Device::cuda); };
  const Tensor z = on_gpu({n.rows(), n.R}), weight = on_gpu({n.D, n.features()}),
               dg = on_gpu({n.rows(), n.D});
  const Tensor s = Tensor::empty(z.shape(), dtype_of<T>, Device::cuda),
               g = Tensor::empty(dg.shape(), dtype_of<T>, Device::cuda);
  const std::int64_t elements = plucker_ring_elements<T>(exec, n.R, n.D);
  REQUIRE(elements > 0);
  const Tensor ring = Tensor::full({elements}, NAN, DType::bf16, Device::cuda);
  const auto dz = [&](const BFloat16* kept) {
    const Tensor out = Tensor::full(z.shape(), NAN, dtype_of<T>, Device::cuda);
    auto args = n.call<PluckerLinearBackward<T>>();
    args.z = z.data<T>(), args.s = s.data<T>(), args.weight = weight.data<T>(), args.dg = dg.data<T>();
    args.dz = {out.data<T>()}, args.weight_ring = kept;
    plucker_linear_backward<T>(exec, args);
    return out.to_vector();
  };
  const auto forward = [&](BFloat16* kept) {
    auto args = n.call<PluckerLinearForward<T>>();
    args.z = z.data<T>(), args.weight = weight.data<T>(), args.s = s.data<T>(), args.g = g.data<T>();
    args.weight_ring = kept;
    plucker_linear_forward<T>(exec, args);
    return g.to_vector();
  };
  const std::vector<double> without = forward(nullptr);
  CHECK(forward(ring.data<BFloat16>()) == without);
  CHECK(dz(ring.data<BFloat16>()) == dz(nullptr));
}

}  // namespace

TEST_CASE("gpu: plucker_linear's backward with the weight as forward kept it", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  check_kept_weight<float>({2, 9, 32, 40, {1, 2, 4}});
  check_kept_weight<BFloat16>({1, 11, 9, 7, {1, 3}});
}

#if defined(WEDGE_EMULATOR)
TEST_CASE("gpu: plucker_linear's gradients where a block has little shared memory", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  {
    const LessSharedMemory less(44 * 1024);  // not the 48 KB of a large block
    check_rows_of_gradient({3073, 5, 4, 8, {1, 3}});
  }
  const LessSharedMemory less(99 * 1024);  // as with compute capability 8.6; not the 104 KB of a small block
  check_backward<BFloat16>({1, 35, 8, 576, {1, 3}}, {false});
  check_backward<float>({1, 35, 8, 576, {1, 3}}, {true});
  check_backward<float>({3, 171, 20, 130, {1, 2, 4}}, {true});  // dweight in the tiles of many rows
}
#endif
