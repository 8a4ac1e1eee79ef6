// Where there is a BLAS, its gemm is called as Eigen declares it: Eigen's own expression would clear C first
// and then accumulate, two passes over the largest tensor of a step that beta = 0 saves.
#include "kernels/matmul.h"

#include <Eigen/Core>
#if defined(WEDGE_WITH_BLAS)
#include <Eigen/src/misc/blas.h>
#endif
#include <algorithm>
#include <limits>

#include "kernels/cpu/parallel.h"
#include "tensor/check.h"

namespace wedge::cpu {
namespace {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using ConstMatrixMap = Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>>;
template <class T>
using MatrixMap = Eigen::Map<Matrix<T>, 0, Eigen::OuterStride<>>;

#if defined(WEDGE_WITH_BLAS)
void blas_gemm(char* ta, char* tb, int* m, int* n, int* k, float* alpha, float* a, int* lda, float* b,
               int* ldb, float* beta, float* c, int* ldc) {
  sgemm_(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void blas_gemm(char* ta, char* tb, int* m, int* n, int* k, double* alpha, double* a, int* lda, double* b,
               int* ldb, double* beta, double* c, int* ldc) {
  dgemm_(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void blas_gemv(char* t, int* m, int* n, float* alpha, float* a, int* lda, float* x, int* x_step, float* beta,
               float* y, int* y_step) {
  sgemv_(t, m, n, alpha, a, lda, x, x_step, beta, y, y_step);
}
void blas_gemv(char* t, int* m, int* n, double* alpha, double* a, int* lda, double* x, int* x_step,
               double* beta, double* y, int* y_step) {
  dgemv_(t, m, n, alpha, a, lda, x, x_step, beta, y, y_step);
}
#endif

template <class T>
void one(const Gemm<T>& g, const T* A, const T* B, T* C) {
#if defined(WEDGE_WITH_BLAS)
  constexpr std::int64_t kMax = std::numeric_limits<int>::max();
  WEDGE_CHECK(std::max({g.M, g.N, g.K, g.lda, g.ldb, g.ldc}) <= kMax,
              "matmul: sizes must fit 32 bits, got {}x{}x{}", g.M, g.N, g.K);
  // A row-major product is the column-major product of the transposes in the other order.
  char ta = g.trans_b ? 'T' : 'N', tb = g.trans_a ? 'T' : 'N';
  int m = static_cast<int>(g.N), n = static_cast<int>(g.M), k = static_cast<int>(g.K);
  // BLAS refuses a leading dimension of 0, which an empty sum brings.
  const auto leading = [](std::int64_t ld) { return static_cast<int>(std::max<std::int64_t>(ld, 1)); };
  int lda = leading(g.ldb), ldb = leading(g.lda), ldc = leading(g.ldc);
  T alpha = g.alpha, beta = g.beta;
  // A single row, as in decoding: gemm takes six times as long for it as gemv.
  if (g.M == 1 && g.K > 0) {
    int rows = g.trans_b ? k : m, columns = g.trans_b ? m : k, x_step = g.trans_a ? ldb : 1, y_step = 1;
    if (beta == T(0)) std::fill_n(C, g.N, T(0));  // some gemv multiply what is there, NaN too
    blas_gemv(&ta, &rows, &columns, &alpha, const_cast<T*>(B), &lda, const_cast<T*>(A), &x_step, &beta, C,
              &y_step);
    return;
  }
  blas_gemm(&ta, &tb, &m, &n, &k, &alpha, const_cast<T*>(B), &lda, const_cast<T*>(A), &ldb, &beta, C, &ldc);
#else
  const auto product = [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t rows = end - begin;
    MatrixMap<T> c(C + begin * g.ldc, rows, g.N, Eigen::OuterStride<>(g.ldc));
    const ConstMatrixMap<T> b(B, g.trans_b ? g.N : g.K, g.trans_b ? g.K : g.N, Eigen::OuterStride<>(g.ldb));
    const ConstMatrixMap<T> a(g.trans_a ? A + begin : A + begin * g.lda, g.trans_a ? g.K : rows,
                              g.trans_a ? rows : g.K, Eigen::OuterStride<>(g.lda));
    if (g.beta == T(0))
      c.setZero();
    else if (g.beta != T(1))
      c *= g.beta;
    if (g.trans_a && g.trans_b)
      c.noalias() += g.alpha * a.transpose() * b.transpose();
    else if (g.trans_a)
      c.noalias() += g.alpha * a.transpose() * b;
    else if (g.trans_b)
      c.noalias() += g.alpha * a * b.transpose();
    else
      c.noalias() += g.alpha * a * b;
  };
  parallel_for(g.M, 16, product);
#endif
}

}  // namespace

template <class T>
void gemm(const Exec&, const Gemm<T>& g) {
  if (g.M == 0 || g.N == 0 || g.batches == 0) return;
  if (g.batches == 1) return one(g, g.A, g.B, g.C);
  const std::int64_t flops = std::max<std::int64_t>(1, g.M * g.N * g.K);
  parallel_for(g.batches, std::max<std::int64_t>(1, 4 * kElementGrain / flops),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i)
                   one(g, g.A + i * g.stride_a, g.B + i * g.stride_b, g.C + i * g.stride_c);
               });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(gemm, Gemm)
}  // namespace wedge
