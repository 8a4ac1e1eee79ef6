// Products in float32: op(A) is copied to float32 columns, and every column of C is a sum of them.
#include "products.h"

#include <algorithm>
#include <vector>

#include "tensor/check.h"
#include "tensor/dtype.h"

namespace wedge::emulator {
namespace {

// A column-major matrix, one of a batch.
struct Matrix {
  const void* data;
  bool is_float;
  std::int64_t rows, columns, ld;
  long long stride;

  std::int64_t offset(std::int64_t batch, std::int64_t i, std::int64_t j) const {
    return batch * stride + j * ld + i;
  }
  float at(std::int64_t batch, std::int64_t i, std::int64_t j) const {
    const std::int64_t at = offset(batch, i, j);
    return is_float ? static_cast<const float*>(data)[at]
                    : static_cast<float>(static_cast<const BFloat16*>(data)[at]);
  }
  void check_in_device_memory(const char* name, std::int64_t batches) const {
    if (rows == 0 || columns == 0) return;
    const std::size_t element = is_float ? sizeof(float) : sizeof(BFloat16);
    WEDGE_CHECK(reinterpret_cast<std::uintptr_t>(data) % element == 0, "emulator: gemm: {} is not aligned",
                name);
    const auto bytes = static_cast<std::size_t>((columns - 1) * ld + rows) * element;
    for (std::int64_t b = 0; b < batches; ++b)
      WEDGE_CHECK(
          is_device_memory(static_cast<const char*>(data) + b * stride * static_cast<long long>(element),
                           bytes),
          "emulator: gemm: {} of batch {}, [{}, {}] with leading dimension {}, is not in one block of device "
          "memory",
          name, b, rows, columns, ld);
  }
};

Matrix matrix_a(const Product& p) {
  return {p.A, p.float_factors, p.trans_a ? p.k : p.m, p.trans_a ? p.m : p.k, p.lda, p.stride_a};
}
Matrix matrix_b(const Product& p) {
  return {p.B, p.float_factors, p.trans_b ? p.n : p.k, p.trans_b ? p.k : p.n, p.ldb, p.stride_b};
}
Matrix matrix_c(const Product& p) {
  return {p.C, p.float_out, p.m, p.n, p.ldc, p.stride_c};
}

// y += x0 b0 + x1 b1 + x2 b2 + x3 b3, in this order.
void add_columns(std::int64_t n, const float* x, std::int64_t between, const float* b,
                 float* __restrict__ y) {
  const float *x0 = x, *x1 = x + between, *x2 = x + 2 * between, *x3 = x + 3 * between;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i)
    y[i] = y[i] + x0[i] * b[0] + x1[i] * b[1] + x2[i] * b[2] + x3[i] * b[3];
}

// Element i of a vector.
float read(const void* vector, bool is_float, std::int64_t i) {
  return is_float ? static_cast<const float*>(vector)[i]
                  : static_cast<float>(static_cast<const BFloat16*>(vector)[i]);
}
void write(void* vector, bool is_float, std::int64_t i, float value) {
  if (is_float) {
    static_cast<float*>(vector)[i] = value;
  } else {
    static_cast<BFloat16*>(vector)[i] = BFloat16(value);
  }
}

void compute(const Product& p) {
  const DeviceAccess access;
  const Matrix a = matrix_a(p), b = matrix_b(p), c = matrix_c(p);
  const bool reads = p.alpha != 0 && p.k > 0;
  const std::int64_t m = p.m, n = p.n, k = p.k;
  std::vector<float> columns(static_cast<std::size_t>(reads ? m * k : 0)), sum(static_cast<std::size_t>(m)),
      factors(static_cast<std::size_t>(k));
  for (std::int64_t batch = 0; batch < p.batches; ++batch) {
    if (reads)
      for (std::int64_t l = 0; l < k; ++l)
        for (std::int64_t i = 0; i < m; ++i)
          columns[l * m + i] = p.trans_a ? a.at(batch, l, i) : a.at(batch, i, l);
    for (std::int64_t j = 0; j < n; ++j) {
      std::fill(sum.begin(), sum.end(), 0.0f);
      if (reads) {
        for (std::int64_t l = 0; l < k; ++l) factors[l] = p.trans_b ? b.at(batch, j, l) : b.at(batch, l, j);
        std::int64_t l = 0;
        for (; l + 4 <= k; l += 4) add_columns(m, &columns[l * m], m, &factors[l], sum.data());
        for (; l < k; ++l)
          for (std::int64_t i = 0; i < m; ++i) sum[i] += columns[l * m + i] * factors[l];
      }
      for (std::int64_t i = 0; i < m; ++i) {
        float result = p.alpha * sum[i];
        if (p.beta != 0) result += p.beta * c.at(batch, i, j);
        if (p.bias != nullptr) result += read(p.bias, p.float_bias, i);
        write(p.C, p.float_out, c.offset(batch, i, j), result);
      }
    }
  }
  check_memory();
}

void check_vector(const char* name, const void* vector, bool is_float, std::int64_t n) {
  const std::size_t element = is_float ? sizeof(float) : sizeof(BFloat16);
  WEDGE_CHECK(vector == nullptr || (reinterpret_cast<std::uintptr_t>(vector) % element == 0 &&
                                    is_device_memory(vector, static_cast<std::size_t>(n) * element)),
              "emulator: gemm: {}, [{}], is not in one block of device memory, or not aligned", name, n);
}

}  // namespace

void multiply(cudaStream_t stream, const Product& p) {
  if (p.m == 0 || p.n == 0 || p.batches == 0) return;
  if (p.alpha != 0 && p.k > 0) {
    matrix_a(p).check_in_device_memory("A", p.batches);
    matrix_b(p).check_in_device_memory("B", p.batches);
  }
  matrix_c(p).check_in_device_memory("C", p.batches);
  check_vector("the bias", p.bias, p.float_bias, p.m);
  if (is_captured(stream)) return capture_work(stream, [p] { compute(p); });
  count_call();
  compute(p);
}

}  // namespace wedge::emulator
