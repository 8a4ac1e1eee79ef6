// C = alpha · op(A) · op(B) + beta · C through cuBLAS. A row-major product is the column-major product of the
// transposes in the other order, so cuBLAS is given B, then A, and computes Cᵀ [N, M].
// float32 factors are multiplied in float32 (TF32 keeps 10 bits of the mantissa and must be asked for),
// bfloat16 factors on the tensor cores with sums in float32. Where a bias comes with a product of bfloat16
// factors that cuBLASLt can do in the same kernel, the product goes there.
#include <limits>
#include <map>
#include <memory>
#include <mutex>

#include "kernels/cuda/blas_bias.cuh"
#include "kernels/cuda/gemm.cuh"

namespace wedge::cu {
namespace {

// What cuBLAS recommends on Hopper. With a workspace of its own a handle chooses the same algorithms, and so
// gives the same bits, whatever else is running.
constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

// cuBLAS for one stream, and the products with a bias in the same workspace.
class Blas {
 public:
  explicit Blas(void* stream)
      : workspace_(allocate(kWorkspaceBytes)), with_bias_(workspace_, kWorkspaceBytes) {
    check_blas(cublasCreate(&handle_), "matmul: cublasCreate");
    constexpr auto kMode =
        static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    check_blas(cublasSetMathMode(handle_, kMode), "matmul: cublasSetMathMode");
    // In this order: a change of stream takes the workspace away.
    check_blas(cublasSetStream(handle_, static_cast<cudaStream_t>(stream)), "matmul: cublasSetStream");
    check_blas(cublasSetWorkspace(handle_, workspace_, kWorkspaceBytes), "matmul: cublasSetWorkspace");
  }
  cublasHandle_t handle() const { return handle_; }
  BiasProducts& with_bias() { return with_bias_; }

 private:
  cublasHandle_t handle_ = nullptr;
  void* workspace_;
  BiasProducts with_bias_;
};

// Those of all streams, made at the first use and never destroyed: at exit the driver may be gone before
// them.
struct AllBlas {
  std::mutex mutex;
  std::map<void*, std::unique_ptr<Blas>> of_stream;
};
AllBlas& all_blas() {
  static AllBlas* const all = new AllBlas;
  return *all;
}

// Calls body(blas) with that of the stream, one thread at a time.
template <class Body>
auto with_blas(void* stream, const Body& body) {
  AllBlas& all = all_blas();
  const std::scoped_lock lock(all.mutex);
  std::unique_ptr<Blas>& blas = all.of_stream[stream];
  if (blas == nullptr) blas = std::make_unique<Blas>(stream);
  return body(*blas);
}

constexpr int kThreads = 256;

// C = beta · C, what is left of a product over K = 0.
template <class Out>
__global__ void gemm_scale_kernel(std::int64_t M, std::int64_t N, std::int64_t batches, float beta, Out* C,
                                  std::int64_t ldc, std::int64_t stride_c) {
  for (std::int64_t i = thread_in_grid(); i < M * N * batches; i += threads_in_grid()) {
    Out* const c = C + i / (M * N) * stride_c + i / N % M * ldc + i % N;
    *c = from_float<Out>(beta == 0 ? 0.0f : beta * to_float(*c));
  }
}

// The matrices of a batch as they lie in memory.
struct Matrices {
  std::int64_t rows, cols, ld, stride, batches;
};

// Dense bfloat16 copies of them.
void copy_rounded(const Matrices& m, const float* from, BFloat16* to) {
  copy_strided({3, {m.batches, m.rows, m.cols}, {m.rows * m.cols, m.cols, 1}, {m.stride, m.ld, 1}, to, from},
               DType::bf16, DType::f32);
}

// A factor in bfloat16: the caller's copy, laid out like the original, or a dense one that is made here. One
// matrix that serves the whole batch is copied once.
class RoundedFactor {
 public:
  RoundedFactor(const Matrices& m, const float* values, const BFloat16* at_hand)
      : copy_(at_hand != nullptr ? 0 : m.rows * m.cols * m.batches),
        data_(at_hand != nullptr ? at_hand : copy_.data()),
        ld_(at_hand != nullptr ? m.ld : m.cols),
        stride_(at_hand != nullptr || m.stride == 0 ? m.stride : m.rows * m.cols) {
    if (at_hand == nullptr) copy_rounded(m, values, copy_.data());
  }
  const BFloat16* data() const { return data_; }
  std::int64_t ld() const { return ld_; }
  std::int64_t stride() const { return stride_; }

 private:
  Scratch<BFloat16> copy_;
  const BFloat16* data_;
  std::int64_t ld_, stride_;
};

// cuBLAS's argument: at least 1, and of 32 bits.
int narrow(std::int64_t n) {
  if (n > std::numeric_limits<int>::max()) fail("matmul", "sizes must fit 32 bits");
  return static_cast<int>(n < 1 ? 1 : n);
}

// The product with its bias in one kernel of cuBLASLt; false, and nothing is done, where there is none.
template <class Out>
bool multiply_with(const Exec& exec, const Gemm<BFloat16>& g, const Out* bias, Out* out) {
  if (bias == nullptr || g.M == 0 || g.N == 0 || g.K == 0 || g.batches != 1) return false;
  const auto op = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  // C's columns are the rows of Cᵀ, to which cuBLAS adds a bias.
  const BiasProduct product{op(g.trans_b), op(g.trans_a), g.N,    g.M, g.K,   g.alpha,        g.B, g.ldb,
                            g.A,           g.lda,         g.beta, out, g.ldc, kBlasType<Out>, bias};
  return with_blas(exec.stream, [&](Blas& blas) {
    return blas.with_bias().multiply(product, static_cast<cudaStream_t>(exec.stream));
  });
}

// The product of bfloat16 copies of the factors, and whether the bias was added with it.
bool gemm_of_rounded(const Exec& exec, const Gemm<float>& g, const float* bias) {
  const auto stored = [&](bool transposed, std::int64_t rows, std::int64_t cols, std::int64_t ld,
                          std::int64_t stride) {
    const std::int64_t batches = stride == 0 ? 1 : g.batches;
    return transposed ? Matrices{cols, rows, ld, stride, batches} : Matrices{rows, cols, ld, stride, batches};
  };
  const RoundedFactor A(stored(g.trans_a, g.M, g.K, g.lda, g.stride_a), g.A, g.A_rounded);
  const RoundedFactor B(stored(g.trans_b, g.K, g.N, g.ldb, g.stride_b), g.B, g.B_rounded);
  const Gemm<BFloat16> of{.trans_a = g.trans_a,
                          .trans_b = g.trans_b,
                          .M = g.M,
                          .N = g.N,
                          .K = g.K,
                          .alpha = g.alpha,
                          .A = A.data(),
                          .lda = A.ld(),
                          .B = B.data(),
                          .ldb = B.ld(),
                          .beta = g.beta,
                          .C = nullptr,
                          .ldc = g.ldc,
                          .batches = g.batches,
                          .stride_a = A.stride(),
                          .stride_b = B.stride(),
                          .stride_c = g.stride_c};
  if (multiply_with(exec, of, bias, g.C)) return true;
  gemm_to(exec, of, g.C);
  return false;
}

}  // namespace

template <class T, class Out>
void gemm_to(const Exec& exec, const Gemm<T>& g, Out* out) {
  if (g.M == 0 || g.N == 0 || g.batches == 0) return;
  if (g.K == 0) {
    if (g.beta == 1) return;
    launch("gemm_scale", gemm_scale_kernel<Out>, blocks_for(g.M * g.N * g.batches, kThreads), kThreads, 0,
           exec.stream, g.M, g.N, g.batches, g.beta, out, g.ldc, g.stride_c);
    return;
  }
  const auto op = [](bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; };
  const int m = narrow(g.N), n = narrow(g.M), k = narrow(g.K), batches = narrow(g.batches);
  const int lda = narrow(g.ldb), ldb = narrow(g.lda), ldc = narrow(g.ldc);
  with_blas(exec.stream, [&](const Blas& blas) {
    check_blas(cublasGemmStridedBatchedEx(blas.handle(), op(g.trans_b), op(g.trans_a), m, n, k, &g.alpha, g.B,
                                          kBlasType<T>, lda, g.stride_b, g.A, kBlasType<T>, ldb, g.stride_a,
                                          &g.beta, out, kBlasType<Out>, ldc, g.stride_c, batches,
                                          CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
               "matmul");
  });
}

template void gemm_to(const Exec&, const Gemm<float>&, float*);
template void gemm_to(const Exec&, const Gemm<BFloat16>&, BFloat16*);
template void gemm_to(const Exec&, const Gemm<BFloat16>&, float*);

std::size_t product_workspace_bytes() {
  AllBlas& all = all_blas();
  const std::scoped_lock lock(all.mutex);
  return all.of_stream.size() * kWorkspaceBytes;
}

template <class T>
bool gemm_with_bias(const Exec& exec, const Gemm<T>& g, const T* bias) {
  if constexpr (std::is_same_v<T, float>) {
    const bool empty = g.M * g.N * g.K * g.batches == 0;
    if (exec.bf16_products && !empty) return gemm_of_rounded(exec, g, bias);
  } else {
    if (multiply_with(exec, g, bias, g.C)) return true;
  }
  gemm_to<T, T>(exec, g, g.C);
  return false;
}

template bool gemm_with_bias(const Exec&, const Gemm<float>&, const float*);
template bool gemm_with_bias(const Exec&, const Gemm<BFloat16>&, const BFloat16*);

template <class T>
void gemm(const Exec& exec, const Gemm<T>& g) {
  gemm_with_bias<T>(exec, g, nullptr);
}

}  // namespace wedge::cu

namespace wedge {
WEDGE_INSTANTIATE_CUDA(gemm, Gemm)
}  // namespace wedge
