// C = alpha · op(A) · op(B) + beta · C through cuBLAS. A row-major product is the column-major product of the
// transposes in the other order, so cuBLAS is given B, then A, and computes Cᵀ [N, M].
// float32 factors are multiplied in float32 (TF32 keeps 10 bits of the mantissa and must be asked for),
// bfloat16 factors on the tensor cores with sums in float32. Where a bias comes with a product of bfloat16
// factors that cuBLASLt can do in the same kernel, the product goes there.
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

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
__global__ void gemm_scale_kernel(std::int64_t M, std::int64_t N, std::int64_t batches, float beta,
                                  GemmResult<Out> C) {
  for (std::int64_t i = thread_in_grid(); i < M * N * batches; i += threads_in_grid()) {
    Out* const c = C.data + i / (M * N) * C.stride + i / N % M * C.ld + i % N;
    *c = from_float<Out>(beta == 0 ? 0.0f : beta * to_float(*c));
  }
}

// An operand [rows, cols] in bfloat16: the caller's copy, laid out like the original, or a dense one that is
// made here. One matrix that serves the whole batch is copied once.
class RoundedOperand {
 public:
  RoundedOperand(const GemmOperand<float>& x, std::int64_t rows, std::int64_t cols, std::int64_t batches)
      : copies_(x.stride == 0 ? 1 : batches),
        memory_(x.rounded != nullptr ? 0 : copies_ * rows * cols),
        operand_{x.rounded, x.ld, nullptr, x.transposed, x.stride} {
    if (x.rounded != nullptr) return;
    if (x.transposed) std::swap(rows, cols);  // as they lie there
    const std::int64_t each = rows * cols;
    copy_strided({3, {copies_, rows, cols}, {each, cols, 1}, {x.stride, x.ld, 1}, memory_.data(), x.data},
                 DType::bf16, DType::f32);
    operand_.data = memory_.data();
    operand_.ld = cols;
    operand_.stride = x.stride == 0 ? 0 : each;
  }
  const GemmOperand<BFloat16>& get() const { return operand_; }

 private:
  std::int64_t copies_;
  Scratch<BFloat16> memory_;
  GemmOperand<BFloat16> operand_;
};

// cuBLAS's argument: at least 1, and of 32 bits.
int narrow(std::int64_t n) {
  if (n > std::numeric_limits<int>::max()) fail("matmul", "sizes must fit 32 bits");
  return static_cast<int>(n < 1 ? 1 : n);
}

// The product with its bias in one kernel of cuBLASLt; false, and nothing is done, where there is none.
template <class Out>
bool multiply_with(const Exec& exec, const Gemm<BFloat16, Out>& g, const Out* bias) {
  if (bias == nullptr || g.M == 0 || g.N == 0 || g.K == 0 || g.batches != 1) return false;
  return with_blas(exec.stream, [&](Blas& blas) {
    return blas.with_bias().multiply(g, bias, static_cast<cudaStream_t>(exec.stream));
  });
}

// The product of bfloat16 copies of the factors, and whether the bias was added with it.
bool gemm_of_rounded(const Exec& exec, const Gemm<float>& g, const float* bias) {
  const RoundedOperand A(g.A, g.M, g.K, g.batches), B(g.B, g.K, g.N, g.batches);
  const Gemm<BFloat16, float> of{g.M, g.N, g.K, A.get(), B.get(), g.C, g.alpha, g.beta, g.batches};
  if (multiply_with(exec, of, bias)) return true;
  gemm_to(exec, of);
  return false;
}

}  // namespace

template <class T, class Out>
void gemm_to(const Exec& exec, const Gemm<T, Out>& g) {
  if (g.M == 0 || g.N == 0 || g.batches == 0) return;
  if (g.K == 0) {
    if (g.beta == 1) return;
    launch("gemm_scale", gemm_scale_kernel<Out>, blocks_for(g.M * g.N * g.batches, kThreads), kThreads, 0,
           exec.stream, g.M, g.N, g.batches, g.beta, g.C);
    return;
  }
  const int m = narrow(g.N), n = narrow(g.M), k = narrow(g.K), batches = narrow(g.batches);
  const int lda = narrow(g.B.ld), ldb = narrow(g.A.ld), ldc = narrow(g.C.ld);
  with_blas(exec.stream, [&](const Blas& blas) {
    check_blas(cublasGemmStridedBatchedEx(blas.handle(), op_of(g.B), op_of(g.A), m, n, k, &g.alpha, g.B.data,
                                          kBlasType<T>, lda, g.B.stride, g.A.data, kBlasType<T>, ldb,
                                          g.A.stride, &g.beta, g.C.data, kBlasType<Out>, ldc, g.C.stride,
                                          batches, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
               "matmul");
  });
}

template void gemm_to(const Exec&, const Gemm<float>&);
template void gemm_to(const Exec&, const Gemm<BFloat16>&);
template void gemm_to(const Exec&, const Gemm<BFloat16, float>&);

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
    if (multiply_with(exec, g, bias)) return true;
  }
  gemm_to(exec, g);
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
