// Column sums that the producer of a gradient hands over to the layer whose bias they are the gradient of:
// right whoever else adds to it, and none where they would not be.
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "autograd/ops.h"
#include "kernels/causal_attention.h"
#include "kernels/layernorm.h"
#include "tests/support/catch.h"
#include "tests/support/gpu.h"
#if defined(WEDGE_EMULATOR)
#include "tests/support/emulator/emulator.h"
#endif

using namespace wedge;
using namespace wedge::test;

namespace {

using Values = std::vector<double>;

// Sums of [rows, D], and how far float32 sums may be from them.
struct Sums {
  Values of, bound;
  explicit Sums(const Tensor& t) {
    const auto D = static_cast<std::size_t>(t.size(-1));
    const Values x = t.to_vector();
    of.resize(D);
    bound.resize(D, 1e-6);
    for (std::size_t i = 0; i < x.size(); ++i) {
      of[i % D] += x[i];
      bound[i % D] += 1e-6 * std::abs(x[i]);
    }
  }
  void check(const Values& got) const {
    REQUIRE(got.size() == of.size());
    for (std::size_t c = 0; c < of.size(); ++c) {
      CAPTURE(c, got[c], of[c]);
      CHECK(std::abs(got[c] - of[c]) <= bound[c]);
    }
  }
};

}  // namespace

TEST_CASE("gpu: layernorm's backward sums the columns of dx", "[gpu][sums]") {
  if (skip_without_gpu()) return;
  for (const std::int64_t D : {4, 128, 260, 512, 516, 6})
    for (const std::int64_t rows : {0, 1, 9, 70, 150})
      for (const int variant : {0, 1, 2, 3}) {
        CAPTURE(D, rows, variant);
        const bool add = variant & 1, masks_output = variant & 2;
        const Tensor dy = random_on_gpu({rows, D}, 1), s = random_on_gpu({rows, D}, 2),
                     weight = random_on_gpu({D}, 3), mean = random_on_gpu({rows}, 4),
                     rstd = random_on_gpu({rows}, 5), dx = random_on_gpu({rows, D}, 6),
                     dh = random_on_gpu({rows, D}, 7),
                     counter = Tensor::zeros({3}, DType::i64).to(Device::cuda);
        const DropoutMask mask{0.25, 7, counter.data<std::int64_t>()};
        LayernormBackward<float> args{rows,
                                      D,
                                      dy.data<float>(),
                                      s.data<float>(),
                                      mean.data<float>(),
                                      rstd.data<float>(),
                                      weight.data<float>(),
                                      mask,
                                      {dx.data<float>(), add},
                                      {dh.data<float>(), add},
                                      {},
                                      {}};
        args.masks_output = masks_output;
        const std::int64_t pieces = cu::layernorm_dx_pieces(args);
        REQUIRE((pieces > 0) == (D % 4 == 0 && D <= 512));
        if (pieces == 0) continue;
        const Tensor sums = Tensor::full({pieces, D}, NAN, DType::f32, Device::cuda);
        args.dx_sums = sums.data<float>();
        layernorm_backward<float>({Device::cuda, cu::stream()}, args);
        const Values parts = sums.to_vector();
        Values got(static_cast<std::size_t>(D));
        for (std::size_t i = 0; i < parts.size(); ++i) got[i % got.size()] += parts[i];
        Sums(dx).check(got);
      }
}

TEST_CASE("gpu: attention's backward sums the columns of dqkv", "[gpu][bf16][sums]") {
  if (skip_without_gpu()) return;
  const Exec exec{Device::cuda, cu::stream(), true};
  for (const std::int64_t width : {32, 64, 128, 16})
    for (const std::int64_t L : {1, 9, 40, 128, 150, 300}) {
      CAPTURE(width, L);
      const std::int64_t B = 2, H = 2, D = H * width;
      const Tensor qkv = random_on_gpu({B, L, 3 * D}, 1), dout = random_on_gpu({B, L, D}, 2);
      const Tensor o = Tensor::empty({B, L, D}, DType::f32, Device::cuda),
                   lse = Tensor::empty({B, H, L}, DType::f32, Device::cuda),
                   dqkv = Tensor::full({B, L, 3 * D}, NAN, DType::f32, Device::cuda);
      CausalAttentionBackward<float> args{B,
                                          L,
                                          H,
                                          D,
                                          qkv.data<float>(),
                                          o.data<float>(),
                                          lse.data<float>(),
                                          dout.data<float>(),
                                          {dqkv.data<float>(), true}};
      CHECK(cu::causal_attention_dqkv_pieces(exec, args) == 0);
      args.dqkv.add = false;
      const std::int64_t pieces = cu::causal_attention_dqkv_pieces(exec, args);
      if (L == 300 || width == 16) CHECK(pieces == 0);
      if (L <= 128 && width != 16) CHECK(pieces == B);
      if (pieces == 0) continue;
      causal_attention_forward<float>(exec,
                                      {B, L, H, D, qkv.data<float>(), o.data<float>(), lse.data<float>()});
      const Tensor sums = Tensor::full({pieces, 3 * D}, NAN, DType::f32, Device::cuda);
      args.dqkv_sums = sums.data<float>();
      causal_attention_backward<float>(exec, args);
      const Values parts = sums.to_vector();
      Values got(static_cast<std::size_t>(3 * D));
      for (std::size_t i = 0; i < parts.size(); ++i) got[i % got.size()] += parts[i];
      Sums(dqkv).check(got);
    }
}

TEST_CASE("gpu: a linear layer's dbias is the sum of the gradient before it is rounded",
          "[gpu][bf16][sums]") {
  if (skip_without_gpu()) return;
  const Bf16ProductsGuard reduced;
  const std::int64_t rows = 70, D = 16, K = 24;
  const Variable h = random_on_gpu({rows, D}, 1), x = random_on_gpu({rows, K}, 2),
                 scale = random_on_gpu({D}, 3), shift = random_on_gpu({D}, 4);
  const Variable w = parameter(random_on_gpu({D, K}, 5)), up = parameter(random_on_gpu({K, K}, 6)),
                 a = parameter(random_on_gpu({K}, 7));
  const Tensor dy = random_on_gpu({rows, D}, 8);
  for (const bool is_feed_forward : {false, true}) {
    CAPTURE(is_feed_forward);
    const Variable bias = parameter(random_on_gpu({D}, 9));
    const Variable y = is_feed_forward ? feed_forward(x, up, a, w, bias) : linear(x, w, bias);
    residual_layernorm(h, y, {}, scale, shift).backward(dy);
    const Variable alone = parameter(y.value().clone());
    residual_layernorm(h, alone, {}, scale, shift).backward(dy);
    Sums(alone.grad()).check(bias.grad().to_vector());
  }
}

TEST_CASE("gpu: dbias of the layer that attention's qkv comes from", "[gpu][bf16][sums]") {
  if (skip_without_gpu()) return;
  const Bf16ProductsGuard reduced;
  const std::int64_t B = 3, L = 20, D = 64;
  const Tensor dout = random_on_gpu({B, L, D}, 1);
  const Variable x = random_on_gpu({B, L, 8}, 2), w = parameter(random_on_gpu({3 * D, 8}, 3)),
                 bias = parameter(random_on_gpu({3 * D}, 4));
  const Variable qkv = linear(x, w, bias);
  causal_attention(qkv, 2).backward(dout);
  const Variable alone = parameter(qkv.value().clone());
  causal_attention(alone, 2).backward(dout);
  Sums(alone.grad()).check(bias.grad().to_vector());

  // Two that read it: the second one adds.
  const Variable again = linear(x, w, bias);
  bias.zero_grad();
  (causal_attention(again, 2) + causal_attention(again, 1)).backward(dout);
  const Variable twice = parameter(again.value().clone());
  (causal_attention(twice, 2) + causal_attention(twice, 1)).backward(dout);
  const Values want = Sums(twice.grad()).of, got = bias.grad().to_vector();
  for (std::size_t c = 0; c < want.size(); ++c) CHECK(got[c] == Approx(want[c]).epsilon(0.02).margin(0.2));
}

TEST_CASE("gpu: dbias of the layers around plucker_linear", "[gpu][bf16][sums]") {
  if (skip_without_gpu()) return;
  const Bf16ProductsGuard reduced;
  // 72 rows: two blocks of 32 and one of 8. R of 7 is summed too, R of 33 is not.
  const std::int64_t B = 2, L = 36, D = 16, K = 8;
  for (const std::int64_t R : {7, 32, 33}) {
    CAPTURE(R);
    const Variable x = random_on_gpu({B, L, K}, 1), reduce = parameter(random_on_gpu({R, K}, 2)),
                   b = parameter(random_on_gpu({R}, 3)),
                   expand = parameter(random_on_gpu({D, R * (R - 1) / 2}, 4)),
                   c = parameter(random_on_gpu({D}, 5)), gate = random_on_gpu({D, 2 * D}, 6),
                   scale = random_on_gpu({D}, 7);
    const Tensor dy = random_on_gpu({B, L, D}, 8), h = random_on_gpu({B, L, D}, 9);
    const std::vector<std::int64_t> lags = {1, 3, 40};
    const auto walk = [&](const Variable& g) {
      gate_layernorm(h, g, gate, Variable(), scale, scale, {}).backward(dy);
    };
    const Variable z = linear(x, reduce, b), g = plucker_linear(z, expand, c, lags);
    walk(g);
    const Variable z_alone = parameter(z.value().clone());
    walk(plucker_linear(z_alone, expand, c, lags));
    Sums(z_alone.grad()).check(b.grad().to_vector());
    const Variable g_alone = parameter(g.value().clone());
    walk(g_alone);
    const Values twice = c.grad().to_vector();  // of two passes
    Values once = twice;
    for (double& v : once) v /= 2;
    Sums(g_alone.grad()).check(once);

    // Two that read g: the second one adds.
    const Variable again = plucker_linear(z_alone, expand, c, lags);
    c.zero_grad();
    (gate_layernorm(h, again, gate, Variable(), scale, scale, {}) +
     gate_layernorm(again, h, gate, Variable(), scale, scale, {}))
        .backward(dy);
    const Variable both = parameter(again.value().clone());
    (gate_layernorm(h, both, gate, Variable(), scale, scale, {}) +
     gate_layernorm(both, h, gate, Variable(), scale, scale, {}))
        .backward(dy);
    Sums(both.grad()).check(c.grad().to_vector());
  }
}

TEST_CASE("gpu: dbias whoever else makes the gradient", "[gpu][sums]") {
  if (skip_without_gpu()) return;
  const auto check = [&](const char* name, std::int64_t rows, std::int64_t D,
                         const std::function<Variable(const Variable& y, const Variable& scale)>& f) {
    CAPTURE(name, rows, D);
    const Tensor in = random_on_gpu({rows, 6}, 1), weight = random_on_gpu({D, 6}, 2),
                 b = random_on_gpu({D}, 3), s = random_on_gpu({D}, 4), c = random_on_gpu({rows, D}, 5);
    const auto gradient = [&](Device device) {
      const Variable w = parameter(weight.to(device)), bias = parameter(b.to(device)),
                     scale = parameter(s.to(device));
      for (int pass = 0; pass < 2; ++pass) {  // the second one adds
        const Variable out = f(linear(Variable(in.to(device)), w, bias), scale);
        sum(out * Variable(c.to(device))).backward();
      }
      Values all = bias.grad().to_vector();
      for (const Variable& v : {w, scale})
        for (const double g : v.grad().to_vector()) all.push_back(g);
      return all;
    };
    const Values want = gradient(Device::cpu), got = gradient(Device::cuda);
    REQUIRE(got.size() == want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      CAPTURE(i);
      CHECK(got[i] == Approx(want[i]).epsilon(1e-3).margin(1e-3));
    }
  };
  using V = const Variable&;
  for (const std::int64_t rows : {1, 70})
    for (const std::int64_t D : {8, 6}) {
      check("one", rows, D, [](V y, V s) { return layernorm(y, s, s); });
      check("residual and input", rows, D, [](V y, V s) { return residual_layernorm(y, y, {}, s, s); });
      check("the norm first", rows, D, [](V y, V s) {
        const Variable other = relu(y);  // recorded first, so walked last
        return other + layernorm(y, s, s);
      });
      check("the norm last", rows, D, [](V y, V s) {
        const Variable n = layernorm(y, s, s);
        return relu(y) + n;
      });
      check("two norms", rows, D,
            [](V y, V s) { return layernorm(y, s, s) + layernorm(y * y, s, s) + layernorm(y, s, s); });
      check("a view between", rows, D, [rows, D](V y, V s) {
        return reshape(layernorm(reshape(y, {1, rows, D}), s, s), {rows, D});
      });
      check("columns in another order", rows, D, [rows, D](V y, V s) {
        return reshape(layernorm(reshape(transpose(y, 0, 1), {rows, D}), s, s), {rows, D});
      });
    }
}

TEST_CASE("gpu: dbias from sums takes no kernel of its own", "[gpu][sums]") {
  if (skip_without_gpu()) return;
#if defined(WEDGE_EMULATOR)
  const Variable x = random_on_gpu({70, 6}, 1), w = parameter(random_on_gpu({8, 6}, 2)),
                 s = parameter(random_on_gpu({8}, 3));
  const Tensor dy = random_on_gpu({70, 8}, 4);
  const auto calls = [&](const Variable& y) {
    const Variable out = layernorm(y, s, s);
    const std::uint64_t before = emulator::calls();
    out.backward(dy);
    return emulator::calls() - before;
  };
  calls(linear(x, w));  // parameters have a gradient from here on
  const Variable bias = parameter(random_on_gpu({8}, 5));
  CHECK(calls(linear(x, w, bias)) == calls(linear(x, w)));
#endif
}
