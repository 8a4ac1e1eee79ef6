// Elementwise kernels, reductions, embedding and AdamW in bfloat16. kernel_check.h has the criterion; the
// numbers that naive() is given are counted here.
#include "autograd/compute.h"
#include "autograd/ops.h"
#include "kernels/adamw.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/reduce.h"
#include "models/optimizer.h"
#include "tests/cases/case.h"
#include "tests/gpu/kernel_check.h"
#include "tests/support/gpu.h"

using namespace wedge;
using namespace wedge::test;
using cases::Draw;

namespace {

// A value from a function is one rounding; neg and relu round nothing.
int roundings_of(UnaryOp op) {
  return op == UnaryOp::neg || op == UnaryOp::relu ? 0 : 1;
}
int roundings_of_slope(UnaryOp op) {
  switch (op) {
    case UnaryOp::neg:
    case UnaryOp::relu:
      return 0;
    case UnaryOp::exp:     // dy · y
    case UnaryOp::log:     // dy / x
    case UnaryOp::square:  // dy · 2x, and 2x is exact
      return 1;
    case UnaryOp::sqrt:  // 0.5 / y, dy ·
      return 2;
    case UnaryOp::tanh:     // y², 1 -, dy ·
    case UnaryOp::sigmoid:  // 1 - y, y ·, dy ·
      return 3;
    case UnaryOp::gelu:  // φ(x), x ·, Φ(x) +, dy ·
      return 4;
  }
  return 0;
}

struct Strided {
  std::vector<std::int64_t> sizes, a, b;

  // Elements from the first to the last that are reached.
  std::int64_t extent(const std::vector<std::int64_t>& strides) const {
    std::int64_t last = 0;
    for (std::size_t d = 0; d < sizes.size(); ++d) last += (sizes[d] - 1) * strides[d];
    return last + 1;
  }
  template <class T>
  Binary<T> binary(BinaryOp op) const {
    Binary<T> args{};
    args.op = op;
    args.rank = static_cast<int>(sizes.size());
    for (std::size_t d = 0; d < sizes.size(); ++d) {
      args.sizes[d] = sizes[d];
      args.a_strides[d] = a[d];
      args.b_strides[d] = b[d];
    }
    return args;
  }
};

}  // namespace

TEST_CASE("gpu: unary functions in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  for (const UnaryOp op : {UnaryOp::neg, UnaryOp::exp, UnaryOp::log, UnaryOp::sqrt, UnaryOp::square,
                           UnaryOp::tanh, UnaryOp::sigmoid, UnaryOp::relu, UnaryOp::gelu})
    for (const std::int64_t n : {1, 33, 1023, 1025, 5003}) {
      CAPTURE(static_cast<int>(op), n);
      const bool positive = op == UnaryOp::log || op == UnaryOp::sqrt;
      Draw draw(1, DType::f64);
      const Operand x(positive ? draw.uniform({n}, 0.1, 4) : draw.normal({n}, 2));
      const Operand y("y", unset({n}), naive(roundings_of(op)));
      check_kernel({&y}, [&]<class T>(const Side<T>& on) {
        unary_forward<T>(on.exec, {.op = op, .n = n, .x = on(x), .y = on(y)});
      });
      const Operand value(y.on(Device::cpu)), dy(draw.normal({n}));
      for (const bool add : {false, true}) {
        CAPTURE(add);
        const Operand dx("dx", before(add, draw.normal({n})), naive(roundings_of_slope(op) + add));
        check_kernel({&dx}, [&]<class T>(const Side<T>& on) {
          unary_backward<T>(
              on.exec, {.op = op, .n = n, .x = on(x), .y = on(value), .dy = on(dy), .dx = {on(dx), add}});
        });
      }
    }
}

TEST_CASE("gpu: GELU and its slope at the ends of the numbers", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  const double inf = std::numeric_limits<double>::infinity();
  const Variable ends =
      parameter(Tensor::from({inf, -inf, 3e38, -3e38, 0.0}, {5}).to(DType::f32).to(Device::cuda));
  const Variable of_ends = gelu(ends);
  of_ends.backward(Tensor::full({5}, 1, DType::f32, Device::cuda));
  CHECK(of_ends.value().to_vector()[0] == inf);
  CHECK(ends.grad().to_vector() == std::vector<double>{1, 0, 1, 0, 0.5});
  // Between products in bfloat16: hidden values of 0.
  const auto leaf = [](const Tensor& t) { return parameter(t.to(DType::f32).to(Device::cuda)); };
  Draw draw(1, DType::f64);
  const Variable x = leaf(draw.normal({4, 8})), up = leaf(draw.normal({16, 8})),
                 a = leaf(Tensor::full({16}, -inf)), down = leaf(draw.normal({8, 16})),
                 b = leaf(draw.normal({8}));
  const Bf16ProductsGuard reduced;
  const Variable y = feed_forward(x, up, a, down, b);
  y.backward(Tensor::full({4, 8}, 1, DType::f32, Device::cuda));
  const auto got = y.value().to_vector(), want = b.value().to_vector();
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == want[i % 8]);
  CHECK(x.grad().to_vector() == std::vector<double>(32, 0));
  CHECK(a.grad().to_vector() == std::vector<double>(16, 0));
}

TEST_CASE("gpu: binary functions in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  const std::vector<Strided> all = {
      {{}, {}, {}},
      {{1025}, {1}, {1}},
      {{5}, {1}, {0}},
      {{7, 33}, {33, 1}, {0, 1}},
      {{7, 33}, {1, 7}, {1, 0}},
      {{3, 1, 5, 17}, {85, 85, 17, 1}, {17, 0, 0, 1}},
      {{64, 65}, {65, 1}, {130, 2}},
      {{2, 2, 2, 2, 2, 2, 2, 3}, {1, 2, 4, 8, 16, 32, 64, 128}, {192, 96, 48, 24, 12, 6, 3, 1}}};
  for (const Strided& shape : all)
    for (const BinaryOp op : {BinaryOp::add, BinaryOp::sub, BinaryOp::mul, BinaryOp::div}) {
      CAPTURE(to_string(shape.sizes), static_cast<int>(op));
      Draw draw(2, DType::f64);
      const Operand a(draw.normal({shape.extent(shape.a)})), b(draw.uniform({shape.extent(shape.b)}, 0.5, 2));
      const Operand y("y", unset(shape.sizes), naive(1));
      check_kernel({&y}, [&]<class T>(const Side<T>& on) {
        Binary<T> args = shape.binary<T>(op);
        args.a = on(a);
        args.b = on(b);
        args.y = on(y);
        binary<T>(on.exec, args);
      });
    }
}

TEST_CASE("gpu: axpy in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  for (const std::int64_t n : {1, 1025, 4099})
    for (const bool with_factor : {false, true})
      for (const bool add : {false, true}) {
        CAPTURE(n, with_factor, add);
        Draw draw(3, DType::f64);
        const Operand x(draw.normal({n})), factor = with_factor ? Operand(draw.normal({1})) : Operand();
        // alpha · factor, · x, y +
        const Operand y("y", before(add, draw.normal({n})), naive(1 + with_factor + add));
        check_kernel({&y}, [&]<class T>(const Side<T>& on) {
          axpy<T>(on.exec,
                  {.n = n, .alpha = convert<T>(-0.75f), .factor = on(factor), .x = on(x), .y = {on(y), add}});
        });
      }
}

TEST_CASE("gpu: reductions in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  struct Size {
    std::int64_t outer, n, inner;
  };
  for (const Size& s : {Size{5, 1, 1},
                        {31, 32, 1},
                        {7, 257, 1},
                        {1, 9001, 1},
                        {300, 3, 5},
                        {1, 64, 31},
                        {2, 700, 33},
                        {1, 2000, 40}})
    for (const bool add : {false, true}) {
      CAPTURE(s.outer, s.n, s.inner, add);
      const Shape all = {s.outer, s.n, s.inner}, reduced = {s.outer, s.inner};
      Draw draw(4, DType::f64);
      const Operand x(draw.normal(all)), few(draw.ids(all, 5));  // of few, the largest comes more than once
      const Operand sums("sums", before(add, draw.normal(reduced)), naive(1 + add));
      const Operand most("most", before(add, draw.normal(reduced)), naive(add));
      check_kernel({&sums, &most}, [&]<class T>(const Side<T>& on) {
        reduce<T>(on.exec, {ReduceOp::sum, s.outer, s.n, s.inner, on(x), {on(sums), add}});
        reduce<T>(on.exec, {ReduceOp::max, s.outer, s.n, s.inner, on(few), {on(most), add}});
      });
      if (add) continue;
      const Operand y(most.on(Device::cpu)), dy(draw.normal(reduced));
      for (const bool dx_add : {false, true}) {
        CAPTURE(dx_add);
        // dy / ties, dx +
        const Operand dx("dx", before(dx_add, draw.normal(all)), naive(1 + dx_add));
        check_kernel({&dx}, [&]<class T>(const Side<T>& on) {
          max_backward<T>(on.exec, {s.outer, s.n, s.inner, on(few), on(y), on(dy), {on(dx), dx_add}});
        });
      }
    }
}

TEST_CASE("gpu: embedding in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  struct Size {
    std::int64_t rows, V, D, step, shift;
  };
  for (const Size& s : {Size{1, 1, 1, 0, 0},
                        {33, 9, 40, 0, 0},
                        {33, 9, 40, 0, 3},
                        {70, 11, 7, 0, 0},
                        {9, 27, 16, 3, 0},
                        {2100, 5, 129, 0, 0}}) {
    CAPTURE(s.rows, s.V, s.D, s.step, s.shift);
    Draw draw(5, DType::f64);
    const Operand ids(draw.ids({s.rows}, s.step > 0 ? s.step : s.V), DType::i32);
    const Operand weight = Operand(draw.normal({s.V, s.D})).shifted(s.shift);
    const Operand y("y", unset({s.rows, s.D}), naive(0));
    check_kernel({&y}, [&]<class T>(const Side<T>& on) {
      embedding_forward<T>(on.exec, {s.rows, s.V, s.D, s.step, on(ids), on(weight), on(y)});
    });
    const Operand dy(draw.normal({s.rows, s.D}));
    for (const bool add : {false, true}) {
      CAPTURE(add);
      const Operand dweight("dweight", before(add, draw.normal({s.V, s.D})), kFloat32, DType::f32);
      check_kernel({&dweight}, [&]<class T>(const Side<T>& on) {
        embedding_backward<T>(on.exec, {s.rows, s.V, s.D, s.step, on(ids), on(dy), {on(dweight), add}});
      });
    }
  }
}

// So many that they are sorted first; and up to where they are not.
TEST_CASE("gpu: the gradient of an embedding of many rows", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  enum class Ids { drawn, one, distinct, skewed };
  struct Size {
    std::int64_t rows, V, D;
    Ids ids;
  };
  for (const Size& s : {Size{4096, 300, 3, Ids::skewed},
                        {4097, 4097, 5, Ids::distinct},
                        {4097, 1, 131, Ids::one},
                        {4500, 256, 7, Ids::drawn},
                        {5000, 257, 33, Ids::skewed},
                        {8192, 30522, 2, Ids::one},
                        {8192, 70000, 2, Ids::skewed},
                        {65536, 30522, 1, Ids::skewed},
                        {131073 + 700, 3000, 1, Ids::drawn}}) {
    CAPTURE(s.rows, s.V, s.D, static_cast<int>(s.ids));
    Draw draw(15, DType::f64);
    const std::vector<double> drawn = draw.ids({s.rows}, s.V).to_vector();
    std::vector<float> ids;
    for (std::int64_t t = 0; t < s.rows; ++t) {
      const double x = drawn[static_cast<std::size_t>(t)], V = static_cast<double>(s.V);
      switch (s.ids) {
        case Ids::drawn:
          ids.push_back(static_cast<float>(x));
          break;
        case Ids::one:
          ids.push_back(static_cast<float>(s.V - 1));
          break;
        case Ids::distinct:  // 1009 has no factor with V in common
          ids.push_back(static_cast<float>(t * 1009 % s.V));
          break;
        case Ids::skewed:  // long runs of the lowest, single ones at the end
          ids.push_back(static_cast<float>(std::floor(V * std::pow(x / V, 6))));
          break;
      }
    }
    const Operand at(Tensor::from(ids, {s.rows}), DType::i32), dy(draw.normal({s.rows, s.D}));
    for (const bool add : {false, true}) {
      CAPTURE(add);
      const Operand dweight("dweight", before(add, draw.normal({s.V, s.D})), kFloat32, DType::f32);
      check_kernel({&dweight}, [&]<class T>(const Side<T>& on) {
        embedding_backward<T>(on.exec, {s.rows, s.V, s.D, 0, on(at), on(dy), {on(dweight), add}});
      });
    }
  }
}

// 2^30 + 1 - 2^30 in float32 is 0 in this order, wherever it is cut, and 1 in another.
TEST_CASE("gpu: the gradient of an embedding is added in the order of its rows", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  constexpr int kV = 1500;
  std::vector<float> ids, dy;
  for (const float x : {0x1p30f, 1.0f, -0x1p30f})
    for (int i = 0; i < kV; ++i) {
      ids.push_back(static_cast<float>(i * 7 % kV));
      dy.push_back(x);
    }
  const Operand at(Tensor::from(ids, {3 * kV}), DType::i32), from(Tensor::from(dy, {3 * kV, 1}));
  const Operand dweight("dweight", unset({kV, 1}), naive(0), DType::f32);
  embedding_backward<BFloat16>(
      {.device = Device::cuda, .stream = cu::stream()},
      {3 * kV, kV, 1, 0, at.on(Device::cuda).data<std::int32_t>(), from.on(Device::cuda).data<BFloat16>(),
       Sink<float>{Tensor(dweight.on(Device::cuda)).data<float>()}});
  CHECK(dweight.on(Device::cuda).to_vector() == std::vector<double>(kV, 0.0));
}

TEST_CASE("gpu: AdamW in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  for (const double clip : {0.0, 1.0}) {
    CAPTURE(clip);
    Draw draw(6, DType::f64);
    struct Parameter {
      std::int64_t n;
      Operand p, g, m, v;
    };
    // m: g · scale, - m, · (1 - beta1), m +. v: g · scale, ², · (1 - beta2), beta2 v +. p: · decay and - step
    // are of its own size; the 9 on the way to the step are of the step's, a tenth of it.
    const auto parameter = [&](std::int64_t n, bool has_gradient) {
      return Parameter{
          n, Operand("p", draw.normal({n}), naive(3)), has_gradient ? Operand(draw.normal({n})) : Operand(),
          Operand("m", draw.normal({n}, 0.1), naive(4)), Operand("v", draw.uniform({n}, 0.5, 1), naive(4))};
    };
    const Parameter all[] = {parameter(5, true), parameter(4099, true), parameter(37, false),
                             parameter(4104, true)};  // the last by fours
    const Operand norm("norm", unset({1}), {1e-12, 1e-12}, DType::f64);
    const Operand scalars(Tensor::from<double>(std::vector{0.1, 0.4, 0.3}, {3}), DType::f64);
    check_kernel({&norm, &all[0].p, &all[0].m, &all[0].v, &all[1].p, &all[1].m, &all[1].v, &all[2].p,
                  &all[2].m, &all[2].v, &all[3].p, &all[3].m, &all[3].v},
                 [&]<class T>(const Side<T>& on) {
                   std::vector<AdamWTensor<T>> tensors;
                   for (const Parameter& each : all)
                     tensors.push_back({each.n, on(each.p), on(each.g), on(each.m), on(each.v)});
                   squared_norm<T>(on.exec, {tensors, on(norm)});
                   const double* const three = on(scalars);
                   adamw_step<T>(on.exec, {.tensors = tensors,
                                           .beta1 = 0.9,
                                           .beta2 = 0.95,
                                           .eps = 1e-8,
                                           .weight_decay = 0.1,
                                           .grad_clip = clip,
                                           .scalars = reinterpret_cast<const AdamWScalars*>(three),
                                           .squared_norm = on(norm)});
                 });
  }
}

TEST_CASE("gpu: AdamW counts a step whose norm is finite, and no other", "[gpu]") {
  if (skip_without_gpu()) return;
  const Variable p = parameter(random_on_gpu({5}, 1));
  AdamW optimizer({{"p", p}}, {});
  const std::vector<double> start = p.value().to_vector();
  for (const double gradient : {HUGE_VAL, double{NAN}, 2.0}) {
    CAPTURE(gradient);
    optimizer.zero_grad();
    sum(p * Variable(Tensor::full({5}, gradient).to(Device::cuda))).backward();
    optimizer.step(0.125);
    const bool finite = std::isfinite(gradient);
    CHECK(optimizer.steps() == (finite ? 1 : 0));
    CHECK(std::isfinite(optimizer.grad_norm()) == finite);
    CHECK((p.value().to_vector() == start) == !finite);
  }
  CHECK(optimizer.grad_norm() == Approx(2 * std::sqrt(5.0)).epsilon(1e-12));
}

// A slice may begin where four neighbours cannot be read at once.
TEST_CASE("gpu: elementwise functions of slices that are not aligned", "[gpu]") {
  if (skip_without_gpu()) return;
  constexpr std::int64_t kCount = 4100;
  for (const std::int64_t at : {1, 2, 4}) {
    CAPTURE(at);
    const auto part = [&](std::uint64_t seed) {
      return random_on_gpu({kCount + at}, seed).slice(0, at, at + kCount);
    };
    const Tensor x = part(1), y = part(2);
    const auto run = [](const Tensor& a, const Tensor& b) {
      const Tensor sum = compute::binary(BinaryOp::add, a, b, "add"), e = compute::unary(UnaryOp::exp, a);
      compute::add_into(b, a);
      return std::vector{sum.to_vector(), e.to_vector(), b.to_vector()};
    };
    const auto want = run(x.clone(), y.clone());
    CHECK(run(x, y) == want);
    CHECK(want[0] == want[2]);
  }
}
