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

  std::int64_t rows() const { return B * L; }
  std::int64_t features() const { return R * (R - 1) / 2; }
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

template <class OnGpu>
void check_forward(const Size& n, std::initializer_list<bool> with_biases = {false, true}) {
  constexpr bool kRounds = std::is_same_v<OnGpu, float>;
  Draw draw(11, DType::f64);
  const std::int64_t P = n.features();
  const Operand z(draw.normal({n.B, n.L, n.R}), dtype_of<OnGpu>);
  const Tensor weight_values = draw.normal({n.D, P}, 1 / std::sqrt(static_cast<double>(P)));
  const Operand weight = kRounds ? Operand::to_be_rounded(weight_values) : Operand(weight_values);
  for (const bool with_bias : with_biases) {
    CAPTURE(with_bias);
    const Operand bias = with_bias ? Operand(draw.normal({n.D}, 0.1), dtype_of<OnGpu>) : Operand();
    const Operand s("s", before(false, Tensor::empty({n.B, n.L, n.R})), kRounds ? kFloat32 : naive(5),
                    dtype_of<OnGpu>);
    const Operand g("g", before(false, Tensor::empty({n.B, n.L, n.D})), kRounds ? kRoundedFeatures : naive(1),
                    dtype_of<OnGpu>);
    check_kernel<OnGpu>({&s, &g},
                        [&]<class T>(const Side<T>& on) {
                          plucker_linear_forward<T>(on.exec, {.B = n.B,
                                                              .L = n.L,
                                                              .R = n.R,
                                                              .D = n.D,
                                                              .lags = n.lags,
                                                              .z = on(z),
                                                              .weight = on(weight),
                                                              .bias = on(bias),
                                                              .s = on(s),
                                                              .g = on(g)});
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

void check_all(const Size& n) {
  CAPTURE(n.B, n.L, n.R, n.D);
  check_forward<BFloat16>(n);
  check_forward<float>(n);
}

}  // namespace

TEST_CASE("gpu: plucker_linear on tensor cores", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  // Pairs in 1 to 16 steps of the ring; R = 17 and 24 leave places of it empty, 18 and more wrap around it.
  // Rows and columns that fill tiles, exceed them by one, and are odd; lags beyond a sequence.
  check_all({1, 64, 32, 128, {1, 2, 4, 8, 12, 16}});
  check_all({2, 35, 32, 131, {1, 2, 4, 8, 12, 16}});
  check_all({1, 1, 32, 8, {1}});
  check_all({3, 7, 8, 24, {1, 2, 9}});
  check_all({1, 65, 16, 9, {3}});
  check_all({1, 20, 17, 6, {1, 5}});
  check_all({1, 33, 24, 5, {2, 40}});
  check_all({2, 5, 2, 3, {1}});
}

TEST_CASE("gpu: plucker_linear on tensor cores of many rows", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  check_forward<float>({2, 7680, 3, 2, {1, 2, 4}}, {true});  // 120 tiles of 128 x 256
}
