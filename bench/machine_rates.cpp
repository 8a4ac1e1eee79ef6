#include "bench/machine_rates.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "autograd/compute.h"
#include "bench/stopwatch.h"
#include "kernels/cpu/parallel.h"
#include "kernels/matmul.h"
#include "tensor/rng.h"

namespace wedge::bench {

Tensor drawn(std::int64_t n, DType dtype, Device device) {
  Rng rng(1);
  const std::int64_t period = std::min<std::int64_t>(n, 1 << 18);
  const Tensor some = Tensor::normal({period}, rng, 0, 0.02).to(dtype).to(device);
  const Tensor all = Tensor::empty({n}, dtype, device);
  for (std::int64_t at = 0; at < n; at += period) {
    const std::int64_t end = std::min(n, at + period);
    all.slice(0, at, end).copy_from(some.slice(0, 0, end - at));
  }
  return all;
}

namespace {

// GFLOP/s of C = A B over square matrices of `n` rows in device memory.
template <class T>
double square_rate(std::int64_t n) {
  const Tensor a = drawn(n * n, dtype_of<T>, Device::cuda), b = drawn(n * n, dtype_of<T>, Device::cuda),
               c = Tensor::empty({n * n}, dtype_of<T>, Device::cuda);
  const Gemm<T> g{
      .M = n, .N = n, .K = n, .A = {a.data<T>(), n}, .B = {b.data<T>(), n}, .C = {c.data<T>(), n}};
  const Exec exec = compute::exec_of(a);
  const double seconds = best_seconds(Device::cuda, [&] { gemm<T>(exec, g); });
  return 2.0 * static_cast<double>(n * n * n) / seconds / 1e9;
}

}  // namespace

double sgemm_rate(const ProductShape& s) {
  const Tensor a = drawn(s.M * s.K), b = drawn(s.K * s.N), c = Tensor::empty({s.M * s.N});
  const Gemm<float> g{.M = s.M,
                      .N = s.N,
                      .K = s.K,
                      .A = {.data = a.data<float>(), .ld = s.trans_a ? s.M : s.K, .transposed = s.trans_a},
                      .B = {.data = b.data<float>(), .ld = s.trans_b ? s.K : s.N, .transposed = s.trans_b},
                      .C = {c.data<float>(), s.N}};
  const double seconds = best_seconds(Device::cpu, [&] { gemm<float>(Exec{}, g); });
  return 2.0 * static_cast<double>(s.M * s.N * s.K) / seconds / 1e9;
}

double copy_rate() {
  constexpr std::int64_t kBytes = std::int64_t{128} << 20;
  std::vector<char> from(kBytes, 1), to(kBytes);
  const double seconds = best_seconds(Device::cpu, [&] {
    cpu::parallel_for(kBytes, 1 << 20, [&](std::int64_t begin, std::int64_t end) {
      std::memcpy(to.data() + begin, from.data() + begin, static_cast<std::size_t>(end - begin));
    });
  });
  return 2.0 * static_cast<double>(kBytes) / seconds / 1e9;
}

Rates gpu_rates(bool quick) {
  Rates rates;
  if constexpr (kWithCuda) {
    const std::int64_t bytes = std::int64_t{1} << (quick ? 20 : 30);
    const Tensor from = Tensor::zeros({bytes / 4}, DType::f32, Device::cuda),
                 to = Tensor::empty({bytes / 4}, DType::f32, Device::cuda);
    const double seconds = best_seconds(Device::cuda, [&] {
      cu::copy_bytes(to.raw(), Device::cuda, from.raw(), Device::cuda, static_cast<std::size_t>(bytes));
    });
    rates.copy = 2.0 * static_cast<double>(bytes) / seconds / 1e9;
    rates.matrix = square_rate<float>(quick ? 256 : 4096);
    rates.matrix_bf16 = square_rate<BFloat16>(quick ? 256 : 8192);
  }
  return rates;
}

Rates cpu_rates() {
  const double matrix = sgemm_rate({false, false, 1024, 1024, 1024});
  return {.copy = copy_rate(), .matrix = matrix, .matrix_bf16 = matrix};
}

}  // namespace wedge::bench
