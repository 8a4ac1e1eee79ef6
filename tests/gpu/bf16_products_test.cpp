// Matrix products in bfloat16 and the head's loss. kernel_check.h has the criterion; the numbers that
// naive() is given are counted here.
#include "autograd/ops.h"
#include "kernels/linear_cross_entropy.h"
#include "kernels/matmul.h"
#include "tests/cases/case.h"
#include "tests/gpu/kernel_check.h"

using namespace wedge;
using namespace wedge::test;
using cases::Draw;

namespace {

// A gemm's sizes, with rows that are `padding` longer than they need to be.
struct Product {
  bool trans_a, trans_b;
  std::int64_t M, N, K, padding, batches;
  double alpha, beta;
  bool share_b;  // one B for the whole batch

  std::int64_t a_cols() const { return trans_a ? M : K; }
  std::int64_t b_cols() const { return trans_b ? K : N; }
  Tensor draw_a(Draw& draw) const { return draw.normal({batches, trans_a ? K : M, a_cols() + padding}); }
  Tensor draw_b(Draw& draw) const {
    return draw.normal({share_b ? 1 : batches, trans_b ? N : K, b_cols() + padding});
  }
  // Where C is not read, NaN, and then without padding: that must stay as it is.
  std::int64_t c_padding() const { return beta == 0 ? 0 : padding; }
  Tensor draw_c(Draw& draw) const { return before(beta != 0, draw.normal({batches, M, N + c_padding()})); }
  // The product, · alpha, + β C with a rounding of its own.
  int roundings() const { return (K > 0) + (K > 0 && alpha != 1) + (beta != 0); }

  template <class T>
  Gemm<T> on(const Side<T>& side, const Operand& a, const Operand& b, const Operand& c) const {
    return {.M = M,
            .N = N,
            .K = K,
            .A = {.data = side(a),
                  .ld = a_cols() + padding,
                  .transposed = trans_a,
                  .stride = (trans_a ? K : M) * (a_cols() + padding)},
            .B = {.data = side(b),
                  .ld = b_cols() + padding,
                  .transposed = trans_b,
                  .stride = share_b ? 0 : (trans_b ? N : K) * (b_cols() + padding)},
            .C = {side(c), N + c_padding(), M * (N + c_padding())},
            .alpha = static_cast<Stat<T>>(alpha),
            .beta = static_cast<Stat<T>>(beta),
            .batches = batches};
  }
};

std::vector<Product> products() {
  std::vector<Product> all;
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      all.push_back({ta, tb, 1, 1, 1, 0, 1, 1, 0, false});
      all.push_back({ta, tb, 33, 31, 17, 3, 1, 1, 1, false});
      all.push_back({ta, tb, 65, 70, 129, 0, 1, 0.5, 0, false});
      all.push_back({ta, tb, 5, 9, 40, 2, 3, -0.75, 0.5, false});
      all.push_back({ta, tb, 7, 8, 33, 1, 4, 1, 0, true});
    }
  all.push_back({false, false, 5, 7, 0, 1, 2, 1, 0.5, false});  // nothing to add up
  return all;
}

}  // namespace

TEST_CASE("gpu: gemm in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  for (const Product& p : products()) {
    CAPTURE(p.trans_a, p.trans_b, p.M, p.N, p.K, p.padding, p.batches, p.alpha, p.beta, p.share_b);
    Draw draw(1, DType::f64);
    const Operand a(p.draw_a(draw)), b(p.draw_b(draw)), c("C", p.draw_c(draw), naive(p.roundings()));
    check_kernel({&c}, [&]<class T>(const Side<T>& on) { gemm<T>(on.exec, p.on(on, a, b, c)); });
  }
}

// float32 in and out, as train.amp has it: only the factors are rounded, on the way or before.
TEST_CASE("gpu: gemm of factors that it rounds to bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  for (const Product& p : products())
    for (const int at_hand : {0, 1, 2, 3}) {
      CAPTURE(p.trans_a, p.trans_b, p.M, p.N, p.K, p.padding, p.batches, p.alpha, p.beta, p.share_b, at_hand);
      Draw draw(2, DType::f64);
      const Tensor b_values = p.draw_b(draw), a_values = p.draw_a(draw);
      const Operand a = Operand::to_be_rounded(a_values), b = Operand::to_be_rounded(b_values);
      const Operand a_rounded(a_values), b_rounded(b_values), c("C", p.draw_c(draw), kFloat32, DType::f32);
      check_kernel<float>({&c},
                          [&]<class T>(const Side<T>& on) {
                            Gemm<T> args = p.on(on, a, b, c);
                            if (on.exec.device == Device::cuda) {
                              if (at_hand & 1) args.A.rounded = on(a_rounded);
                              if (at_hand & 2) args.B.rounded = on(b_rounded);
                            }
                            gemm<T>(on.exec, args);
                          },
                          {.bf16_products = true});
    }
}

namespace {

// `OnGpu` is BFloat16, or float with products of bfloat16 copies.
template <class OnGpu>
void check_linear_cross_entropy() {
  struct Size {
    std::int64_t rows, V, D;
  };
  constexpr bool kRounds = std::is_same_v<OnGpu, float>;
  // Rows of a few columns, of more than one block of 256 threads holds, and of more than are held at all;
  // more rows than logits are made for at once, and than dweight is made of at once (with the emulator's 1 MB
  // of L2).
  for (const Size& s :
       {Size{1, 2, 1}, {5, 7, 3}, {33, 70, 17}, {9, 300, 8}, {300, 9003, 8}, {2, 32771, 5}, {9, 16389, 4}})
    for (const bool with_gradients : {false, true}) {
      CAPTURE(s.rows, s.V, s.D, with_gradients);
      Draw draw(3, DType::f64);
      const Tensor x_values = draw.normal({s.rows, s.D}), weight_values = draw.normal({s.V, s.D}, 0.5);
      const Operand x = factor<OnGpu>(x_values), weight = factor<OnGpu>(weight_values);
      const Tensor padded_values = Tensor::zeros({padded_classes(s.V), s.D}, DType::f64);
      padded_values.slice(0, 0, s.V).copy_from(weight_values);
      const Operand x_rounded(x_values), weight_rounded(weight_values), weight_padded(padded_values),
          targets(draw.ids({s.rows}, s.V), DType::i32);
      // Logits are rounded where G is to take their place, float32 else.
      const Operand loss("loss", unset({1}), with_gradients ? naive(1) : kFloat32, DType::f32);
      // dx: logits, - max, exp, /, product; onehot is one element of V. dweight is a float32 sum; what is
      // rounded is the logits and G, whose share of the error is that of one factor.
      const Tensor dx_start = Tensor::full({s.rows, s.D}, NAN),
                   dweight_start = Tensor::full({padded_classes(s.V), s.D}, NAN);
      const Operand dx = with_gradients ? Operand("dx", dx_start, naive(5), dtype_of<OnGpu>) : Operand();
      const Operand dweight =
          with_gradients ? Operand("dweight", dweight_start, naive(3), DType::f32) : Operand();
      enum class Copies { none, as_they_are, padded };
      for (const Copies copies : {Copies::none, Copies::as_they_are, Copies::padded}) {
        if (copies != Copies::none && !(kRounds && with_gradients)) continue;
        CAPTURE(copies);
        check_kernel<OnGpu>({&loss, &dx, &dweight},
                            [&]<class T>(const Side<T>& on) {
                              LinearCrossEntropy<T> args{s.rows,   s.V,        s.D,
                                                         on(x),    on(weight), on(targets),
                                                         on(loss), on(dx),     on(dweight)};
                              if (copies != Copies::none && on.exec.device == Device::cuda) {
                                const bool padded = copies == Copies::padded;
                                args.x_rounded = on(x_rounded);
                                args.weight_rounded = padded ? on(weight_padded) : on(weight_rounded);
                                args.rounded_rows = padded ? padded_classes(s.V) : s.V;
                              }
                              linear_cross_entropy<T>(on.exec, args);
                            },
                            {.bf16_products = kRounds});
      }
    }
}

}  // namespace

TEST_CASE("gpu: the head's loss in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  check_linear_cross_entropy<BFloat16>();
}

// With one part of the rows and with two (1 MB of L2 in the emulator), a gradient of one and another, added
// to what is there and not: beside the CPU.
TEST_CASE("gpu: the head's gradient of the weight that is left to backward", "[gpu][bf16][side]") {
  if (skip_without_gpu()) return;
  for (const bool bf16 : {false, true})
    for (const std::int64_t rows : {20, 300})
      for (const double scale : {1.0, 0.5}) {
        CAPTURE(bf16, rows, scale);
        const Bf16ProductsGuard reduced(bf16);
        Draw draw(6, DType::f32);
        const std::int64_t V = 9003, D = 4;
        const Tensor x = draw.normal({rows, D}), weight = draw.normal({V, D}, 0.5),
                     targets = draw.ids({rows}, V);
        const auto gradients = [&](Device device) {
          const Variable in = parameter(x.to(device)), w = parameter(weight.to(device));
          for (int pass = 0; pass < 2; ++pass) {
            const Variable loss = linear_cross_entropy(in, w, targets.to(device));
            scale == 1 ? loss.backward() : (loss * scale).backward();
          }
          return std::vector{in.grad().to_vector(), w.grad().to_vector()};
        };
        const auto want = gradients(Device::cpu), got = gradients(Device::cuda);
        for (std::size_t which = 0; which < want.size(); ++which) {
          double off = 0, size = 0;
          for (std::size_t i = 0; i < want[which].size(); ++i) {
            off = std::max(off, std::abs(got[which][i] - want[which][i]));
            size = std::max(size, std::abs(want[which][i]));
          }
          CAPTURE(which);
          CHECK(off <= (bf16 ? 0.02 : 1e-5) * size);
        }
      }
}

#if defined(WEDGE_EMULATOR)
// Where a block's next row has no room in shared memory, every row has a block, and all bits are the same.
TEST_CASE("gpu: the head's loss where a row does not fit in shared memory", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  Draw draw(5, DType::f32);
  const Tensor x = draw.normal({9, 4}).to(Device::cuda), weight = draw.normal({9003, 4}).to(Device::cuda);
  const Tensor targets = draw.ids({9}, 9003).to(Device::cuda);
  const auto run = [&] {
    const Variable in = parameter(x), w = parameter(weight);
    const Variable loss = linear_cross_entropy(in, w, targets);
    loss.backward();
    return std::vector{loss.value().to_vector(), in.grad().to_vector(), w.grad().to_vector()};
  };
  const Bf16ProductsGuard reduced;
  const auto with_room = run();
  const LessSharedMemory less(32 * 1024);
  CHECK(run() == with_room);
}
#endif

TEST_CASE("gpu: the head's loss of factors that it rounds to bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  check_linear_cross_entropy<float>();
}
