// Causal attention in bfloat16, on tensor cores and without. kernel_check.h has the criterion; the numbers
// that naive() is given are counted here.
#include "kernels/causal_attention.h"

#include "tests/cases/case.h"
#include "tests/gpu/kernel_check.h"

using namespace wedge;
using namespace wedge::test;
using cases::Draw;

namespace {

struct Size {
  std::int64_t B, L, H, D;
};

// Forward and backward of OnGpu, which is BFloat16, or float with products of factors that the kernels round.
//
// In bfloat16, o: S, · scale, - max, exp, /, product with v. dq and dk: S, · scale, - lse, exp, P ∘, · scale,
// product; dv has two less. Of float32 tensors only P and dS are rounded besides the factors: one rounding,
// but of every term of a sum, whose errors add up to a normal one; of thousands, the worst is off by four
// times the rms.
template <class OnGpu>
void check_causal_attention(const Size& n, Draw& draw, std::int64_t shift = 0) {
  constexpr bool kRounds = std::is_same_v<OnGpu, float>;
  constexpr DType kDType = kRounds ? DType::f32 : DType::bf16;
  const Exec exec{.bf16_products = kRounds};
  const Bound products{naive(4).worst, naive(1).rms};
  const Operand qkv = factor<OnGpu>(draw.normal({n.B, n.L, 3 * n.D})).shifted(shift);
  const Operand dout = factor<OnGpu>(draw.normal({n.B, n.L, n.D})).shifted(shift);
  const Operand o("o", unset({n.B, n.L, n.D}), kRounds ? products : naive(6), kDType);
  const Operand lse("lse", unset({n.B, n.H, n.L}), kFloat32, DType::f32);
  check_kernel<OnGpu>(
      {&o, &lse},
      [&]<class T>(const Side<T>& on) {
        causal_attention_forward<T>(on.exec, {n.B, n.L, n.H, n.D, on(qkv), on(o), on(lse)});
      },
      exec);
  const Operand kept(o.on(Device::cpu), kDType), kept_lse(lse.on(Device::cpu), DType::f32);
  for (const bool add : {false, true}) {
    if (n.L == 1 && !add) continue;  // dq = dk = 0: no bound is relative to that
    CAPTURE(add);
    const Operand dqkv = Operand("dqkv", before(add, draw.normal({n.B, n.L, 3 * n.D})),
                                 kRounds ? products : naive(7 + add), kDType)
                             .in_parts(3);
    check_kernel<OnGpu>(
        {&dqkv},
        [&]<class T>(const Side<T>& on) {
          causal_attention_backward<T>(
              on.exec, {n.B, n.L, n.H, n.D, on(qkv), on(kept), on(kept_lse), on(dout), on(dqkv), add});
        },
        exec);
  }
}

// As long as tensor cores' tiles of 64 rows, with a row more and with less, and longer than what stays in
// shared memory, for every width that they have.
std::vector<Size> tensor_core_sizes() {
  return {
      {3, 1, 2, 64},    {2, 17, 2, 64},  {1, 64, 2, 64},  {1, 200, 1, 32},  {1, 270, 1, 32},    // heads of 32
      {2, 1, 1, 64},    {1, 17, 3, 192}, {2, 64, 1, 64},  {1, 65, 2, 128},                      // 64
      {1, 128, 2, 128}, {1, 200, 1, 64}, {1, 270, 1, 64},                                       //
      {1, 1, 2, 256},   {1, 17, 1, 128}, {1, 65, 2, 256}, {1, 128, 1, 128}, {1, 200, 1, 128}};  // 128
}

}  // namespace

#if defined(WEDGE_EMULATOR)
// As with compute capability 8.6. Resident, they would take 132 KB and more.
TEST_CASE("gpu: causal attention where a block has little shared memory", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  const LessSharedMemory less(99 * 1024);
  for (const Size& n : {Size{1, 200, 1, 64}, Size{1, 128, 1, 128}}) {
    CAPTURE(n.B, n.L, n.H, n.D);
    Draw draw(6, DType::f64);
    check_causal_attention<BFloat16>(n, draw);
    check_causal_attention<float>(n, draw);
  }
}
#endif

TEST_CASE("gpu: causal attention in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  // Heads of 3, 9, 24, 40 and 100 columns: every width of the tiles without tensor cores.
  std::vector<Size> all{{2, 5, 2, 6}, {1, 33, 3, 27}, {2, 70, 1, 24}, {1, 97, 2, 80}, {1, 65, 1, 100}};
  for (const Size& n : tensor_core_sizes()) all.push_back(n);
  for (const Size& n : all) {
    CAPTURE(n.B, n.L, n.H, n.D);
    Draw draw(6, DType::f64);
    check_causal_attention<BFloat16>(n, draw);
  }
}

TEST_CASE("gpu: causal attention of factors that it rounds to bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  for (const Size& n : tensor_core_sizes()) {
    CAPTURE(n.B, n.L, n.H, n.D);
    Draw draw(7, DType::f64);
    check_causal_attention<float>(n, draw);
  }
}

TEST_CASE("gpu: causal attention of tensors that do not start at 16 bytes", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  Draw draw(8, DType::f64);
  check_causal_attention<BFloat16>({1, 20, 2, 64}, draw, 1);
}
