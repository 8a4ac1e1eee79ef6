// A linear layer's products with their bias, where cuBLASLt has a kernel for both and where it has none (the
// emulator's has none off 16 bytes), and their gradients.
#include "kernels/linear.h"

#include <utility>

#include "kernels/matmul.h"

#include "tensor/cuda/graph.h"
#include "tests/cases/case.h"
#include "tests/gpu/kernel_check.h"

using namespace wedge;
using namespace wedge::test;
using cases::Draw;

namespace {

struct Size {
  std::int64_t rows, K, N;
};
const Size kSizes[] = {{1, 1, 1},   {9, 7, 5},    {5, 8, 16}, {64, 40, 24},
                       {70, 33, 8}, {70, 32, 12}, {0, 8, 16}, {300, 16, 40}};

// What two operands of float32 and their copies are to be: values that bfloat16 has, so that it does not
// matter which of them is added up.
Tensor exact(const Tensor& values) {
  return values.to(DType::bf16).to(DType::f32);
}

// A float32 operand and its copy, moved on by `shift` elements, the copy null unless it is to be at hand.
struct Factor {
  Operand values, copy;
  Factor(const Tensor& of, std::int64_t shift, bool at_hand)
      : values(Operand(of, DType::f32).shifted(shift)),
        copy(at_hand ? Operand(of).shifted(shift) : Operand()) {}
};

template <class T>
LinearForward<T> forward_args(const Side<T>& on, const Size& s, const Factor& x, const Factor& weight,
                              const Operand& bias, const Operand& y) {
  LinearForward<T> args{s.rows, s.K, s.N, on(x.values), on(weight.values), on(bias), on(y)};
  if (on.exec.device == Device::cuda) {
    args.x_rounded = on(x.copy);
    args.weight_rounded = on(weight.copy);
  }
  return args;
}

}  // namespace

TEST_CASE("gpu: a linear layer's product with its bias", "[gpu][bf16][linear]") {
  if (skip_without_gpu()) return;
  for (const Size& s : kSizes)
    for (const bool with_bias : {false, true}) {
      CAPTURE(s.rows, s.K, s.N, with_bias);
      Draw draw(1, DType::f64);
      const Tensor x_values = draw.normal({s.rows, s.K}), w_values = draw.normal({s.N, s.K}),
                   b_values = draw.normal({s.N});
      const Tensor nothing = unset({s.rows, s.N});
      {
        const Operand x(x_values), w(w_values), b = with_bias ? Operand(b_values) : Operand();
        const Operand y("y", nothing, naive(1 + with_bias));
        check_kernel({&y}, [&]<class T>(const Side<T>& on) {
          linear_forward<T>(on.exec, {s.rows, s.K, s.N, on(x), on(w), on(b), on(y)});
        });
      }
      for (const bool bf16_products : {false, true})
        for (const bool at_hand : {false, true})
          // The bias is also at 4 bytes where all else is at 16.
          for (const auto& [shift, bias_shift] :
               {std::pair<std::int64_t, std::int64_t>{0, 0}, {1, 1}, {8, 8}, {0, 1}}) {
            CAPTURE(bf16_products, at_hand, shift, bias_shift);
            const Factor x(exact(x_values), shift, at_hand), w(exact(w_values), shift, at_hand);
            const Operand b = with_bias ? Operand(b_values, DType::f32).shifted(bias_shift) : Operand();
            const Operand y = Operand("y", nothing, kFloat32, DType::f32).shifted(shift);
            check_kernel<float>({&y},
                                [&]<class T>(const Side<T>& on) {
                                  linear_forward<T>(on.exec, forward_args(on, s, x, w, b, y));
                                },
                                {.bf16_products = bf16_products});
          }
    }
  if constexpr (kWithCuda) {
    constexpr std::size_t kOfStream = std::size_t{32} << 20;
    const std::size_t bytes = cu::product_workspace_bytes();
    CHECK((bytes >= kOfStream && bytes % kOfStream == 0));
  }
}

namespace {

// A gradient of the output with its copy, x with its copy, and where dW and dbias go, if they are wanted.
template <class T>
struct Backward {
  const T *dy, *x;
  Sink<T> dw, db;
  const BFloat16 *dy_rounded = nullptr, *x_rounded = nullptr;

  void run(const Exec& exec, const Size& s) const {
    if (dw)
      gemm<T>(exec, {.M = s.N,
                     .N = s.K,
                     .K = s.rows,
                     .A = transposed(dy, s.N, dy_rounded),
                     .B = {x, s.K, x_rounded},
                     .C = {dw.data, s.K},
                     .beta = dw.add ? 1.0f : 0.0f});
    if (db) linear_dbias<T>(exec, {s.rows, s.N, dy, db, dy_rounded});
  }
};

// dW and dbias, of which `wanted` has bits 1 and 2.
template <class OnGpu>
void check_backward(const Size& s, int wanted, bool dw_add, bool db_add, std::int64_t shift, bool at_hand,
                    bool bf16_products) {
  CAPTURE(s.rows, s.K, s.N, wanted, dw_add, db_add, shift, at_hand, bf16_products);
  constexpr bool kFloat = std::is_same_v<OnGpu, float>;
  constexpr DType kType = dtype_of<OnGpu>;
  Draw draw(2, DType::f64);
  const Factor dy(exact(draw.normal({s.rows, s.N})), shift, at_hand),
      x(exact(draw.normal({s.rows, s.K})), shift, at_hand);
  const Operand dy_bf16 = kFloat ? Operand() : Operand(dy.values.on(Device::cpu)),
                x_bf16 = kFloat ? Operand() : Operand(x.values.on(Device::cpu));
  const auto result = [&](const char* name, const Tensor& values, bool add) {
    return Operand(name, before(add, values), kFloat ? kFloat32 : naive(1 + add), kType).shifted(shift);
  };
  const Operand dw = wanted & 1 ? result("dW", draw.normal({s.N, s.K}), dw_add) : Operand();
  const Operand db = wanted & 2 ? result("dbias", draw.normal({s.N}), db_add) : Operand();
  check_kernel<OnGpu>({&dw, &db},
                      [&]<class T>(const Side<T>& on) {
                        const bool from_bf16 = std::is_same_v<T, BFloat16>;
                        Backward<T> args{.dy = on(from_bf16 ? dy_bf16 : dy.values),
                                         .x = on(from_bf16 ? x_bf16 : x.values),
                                         .dw = {on(dw), dw_add},
                                         .db = {on(db), db_add}};
                        if (on.exec.device == Device::cuda) {
                          args.dy_rounded = on(dy.copy);
                          args.x_rounded = on(x.copy);
                        }
                        args.run(on.exec, s);
                      },
                      {.bf16_products = bf16_products});
}

}  // namespace

TEST_CASE("gpu: a linear layer's gradients of weight and bias", "[gpu][bf16][linear]") {
  if (skip_without_gpu()) return;
  for (const Size& s : kSizes)
    for (const int wanted : {1, 2, 3})
      for (const int add : {0, 1, 2, 3}) {
        check_backward<BFloat16>(s, wanted, add & 1, add & 2, 0, false, false);
        check_backward<float>(s, wanted, add & 1, add & 2, 0, false, false);
        for (const std::int64_t shift : {0, 1, 8})
          check_backward<float>(s, wanted, add & 1, add & 2, shift, shift != 8, true);
      }
}

// dbias is of dy as it is, where that is given, and else of its copy.
TEST_CASE("gpu: dbias of a gradient that is rounded for the product", "[gpu][bf16][linear]") {
  if (skip_without_gpu()) return;
  for (const Size& s : {Size{200, 16, 64}, Size{200, 15, 63}})
    for (const bool given : {false, true}) {
      CAPTURE(s.rows, s.K, s.N, given);
      Draw draw(3, DType::f64);
      const Tensor values = draw.normal({s.rows, s.N});
      const Operand copy(values), x = Operand::to_be_rounded(draw.normal({s.rows, s.K})),
                                  dy = given ? Operand(values, DType::f32) : Operand::to_be_rounded(values);
      const Operand dw("dW", unset({s.N, s.K}), given ? naive(2) : kFloat32, DType::f32),
          db("dbias", unset({s.N}), kFloat32, DType::f32);
      check_kernel<float>({&dw, &db},
                          [&]<class T>(const Side<T>& on) {
                            const bool on_cpu = on.exec.device == Device::cpu;
                            Backward<T> args{.dy = nullptr, .x = on(x), .dw = on(dw), .db = on(db)};
                            if (given || on_cpu) args.dy = on(dy);
                            if (!on_cpu) args.dy_rounded = on(copy);
                            args.run(on.exec, s);
                          },
                          {.bf16_products = true});
    }
}

TEST_CASE("gpu: a linear layer's products in a graph", "[gpu][bf16][linear][graph]") {
  if (skip_without_gpu()) return;
  for (const Size& s : {Size{24, 16, 32}, Size{24, 15, 33}}) {
    const bool on_16_bytes = s.N == 32;
    CAPTURE(on_16_bytes);
    Draw draw(4, DType::f64);
    const auto factor = [&](const Shape& shape) { return Operand(draw.normal(shape)); };
    const Operand x = factor({s.rows, s.K}), w = factor({s.N, s.K}), b(draw.normal({s.N}), DType::f32),
                  dy = factor({s.rows, s.N}), dy_values(dy.on(Device::cpu), DType::f32);
    const Side<float> on{{Device::cuda, cu::stream(), true}};
    const auto result = [](const Shape& shape) { return Operand("", unset(shape), kFloat32, DType::f32); };
    const Operand y = result({s.rows, s.N}), dw = result({s.N, s.K}), db = result({s.N});
    const auto forward = [&] {
      linear_forward<float>(on.exec, {s.rows, s.K, s.N, nullptr, nullptr, on(b), on(y), on(x), on(w)});
    };
    const auto backward = [&] {
      const Backward<float> args{.dy = on(dy_values),
                                 .x = nullptr,
                                 .dw = on(dw),
                                 .db = on(db),
                                 .dy_rounded = on(dy),
                                 .x_rounded = on(x)};
      args.run(on.exec, s);
    };
    const MemoryPool pool;
    const MemoryPool::Scope scope(pool);
    const auto check = [&](const auto& body, std::initializer_list<const Operand*> results,
                           [[maybe_unused]] std::size_t nodes) {
      body();
      std::vector<std::vector<double>> want;
      for (const Operand* r : results) want.push_back(r->on(Device::cuda).to_vector());
      for (const Operand* r : results) r->restore();
      cu::Graph graph = cu::Graph::capture(body);
#if defined(WEDGE_EMULATOR)  // elsewhere it is the library that decides
      CHECK(graph.nodes() == nodes);
#endif
      for (int replay = 0; replay < 2; ++replay) {
        for (const Operand* r : results) r->restore();
        graph.replay();
        std::size_t at = 0;
        for (const Operand* r : results) CHECK(r->on(Device::cuda).to_vector() == want[at++]);
      }
    };
    check(forward, {&y}, on_16_bytes ? 1 : 2);
    check(backward, {&dw, &db}, 3);
  }
}
