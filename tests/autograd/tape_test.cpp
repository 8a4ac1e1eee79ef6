// The tape: what is recorded, in what order gradients meet, and what is freed when.
#include <cmath>
#include <thread>

#include "autograd/compute.h"
#include "autograd/ops.h"
#include "tests/autograd/values.h"
#include "tests/support/catch.h"

using namespace wedge;
using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("gradients of all uses of a variable add up", "[tape]") {
  const Variable x = parameter(values({2, -3}));
  sum(x * x * x + x + x).backward();
  CHECK(grad_of(x) == Values{3 * 4 + 2, 3 * 9 + 2});
}

TEST_CASE("a diamond of diamonds is walked once a node", "[tape]") {
  const Variable x = parameter(values({1}));
  Variable y = x;
  for (int i = 0; i < 60; ++i) y = y + y;  // 2⁶⁰ paths
  sum(y).backward();
  CHECK(grad_of(x) == Values{0x1p60});
}

TEST_CASE("one gradient handed to two inputs is not shared when more arrives", "[tape]") {
  const Variable a0 = parameter(values({1, 2})), b0 = parameter(values({3, 4}));
  const Variable a = a0 * 1.0, b = b0 * 1.0;
  const Variable earlier = sum(square(a));  // recorded before the sum, so its gradient comes after the sum's
  const Variable residual = a + b;          // hands the same tensor to a and to b
  (sum(residual * Variable(values({10, 20}))) + earlier).backward();
  CHECK(grad_of(a0) == Values{10 + 2 * 1, 20 + 2 * 2});
  CHECK(grad_of(b0) == Values{10, 20});
}

TEST_CASE("views of one gradient are not shared when more arrives", "[tape]") {
  const Variable a0 = parameter(values({1, 2})), b0 = parameter(Tensor::from<double>({3, 4}, {2, 1}));
  const Variable a = a0 * 1.0, b = b0 * 1.0;
  const Variable earlier_a = sum(square(a)), earlier_b = sum(square(b));
  const Variable both = reshape(a, {2, 1}) + b;
  (sum(both * 10.0) + earlier_a + earlier_b).backward();
  CHECK(grad_of(a0) == Values{12, 14});
  CHECK(grad_of(b0) == Values{16, 18});
}

TEST_CASE("the caller's gradient is read, not written", "[tape]") {
  const Variable x0 = parameter(values({1, 2}));
  const Variable x = x0 * 1.0;
  const Variable earlier = square(x);
  const Tensor given = values({1, 1});
  (x + earlier).backward(given);
  CHECK(given.to_vector() == Values{1, 1});
  CHECK(grad_of(x0) == Values{3, 5});
}

TEST_CASE("several backward passes add up until the gradient is forgotten", "[tape]") {
  const Variable w = parameter(values({1, 2}));
  CHECK_FALSE(w.grad().defined());
  sum(w * 3.0).backward();
  CHECK(grad_of(w) == Values{3, 3});
  const void* address = w.grad().raw();
  sum(square(w)).backward();
  CHECK(grad_of(w) == Values{5, 7});
  w.zero_grad();
  CHECK_FALSE(w.grad().defined());
  sum(w * -1.0).backward();
  CHECK(grad_of(w) == Values{-1, -1});  // assigned, not added to what was there
  CHECK(w.grad().raw() == address);
}

TEST_CASE("a gradient's memory can be had before the first step", "[tape]") {
  const Variable w = parameter(values({1, 2}));
  const Tensor buffer = w.grad_buffer();
  CHECK(buffer.to_vector() == Values{0, 0});
  CHECK_FALSE(w.grad().defined());
  buffer.data<double>()[0] = 100;  // what is in there does not count
  sum(w * 2.0).backward();
  CHECK(w.grad().raw() == buffer.raw());
  CHECK(grad_of(w) == Values{2, 2});
  CHECK(w.grad_buffer().raw() == buffer.raw());
  CHECK_THROWS_AS(Variable(values({1})).grad_buffer(), Error);
  CHECK_THROWS_AS((w * 2.0).grad_buffer(), Error);
}

TEST_CASE("only what wants a gradient gets one", "[tape]") {
  const Variable w = parameter(values({1, 2})), c = values({3, 4});
  const Variable y = w * c;
  CHECK(y.requires_grad());
  CHECK_FALSE((c * c).requires_grad());
  sum(y).backward();
  CHECK(grad_of(w) == Values{3, 4});
  CHECK_FALSE(c.grad().defined());
  CHECK_FALSE(y.grad().defined());  // only leaves keep theirs
  CHECK_THROWS_WITH(parameter(Tensor::zeros({2}, DType::i32)), ContainsSubstring("only floating tensors"));
  CHECK_THROWS_AS(Variable(Tensor()), Error);
  CHECK_THROWS_AS(Variable().value(), Error);
}

TEST_CASE("no graph is recorded in no-grad mode, on this thread, while it lasts", "[tape]") {
  const Variable w = parameter(values({1}));
  {
    const NoGradGuard outer;
    CHECK_FALSE(grad_enabled());
    CHECK_FALSE((w * 2.0).requires_grad());
    { const NoGradGuard inner; }
    CHECK_FALSE(grad_enabled());
    bool other_thread = false;
    std::thread([&] { other_thread = grad_enabled(); }).join();
    CHECK(other_thread);
  }
  CHECK(grad_enabled());
  CHECK((w * 2.0).requires_grad());
}

TEST_CASE("a detached variable is a constant of the same value", "[tape]") {
  const Variable w = parameter(values({2}));
  const Variable y = w * 3.0;
  CHECK(y.detach().value().shares_storage_with(y.value()));
  CHECK_FALSE(y.detach().requires_grad());
  sum(y * y.detach()).backward();
  CHECK(grad_of(w) == Values{3 * 6});
}

TEST_CASE("backward starts from a scalar or from a given gradient", "[tape]") {
  const Variable w = parameter(values({1, 2}));
  CHECK_THROWS_WITH((w * 2.0).backward(), ContainsSubstring("backward: expected a scalar, got shape [2]"));
  CHECK_THROWS_WITH(Variable().backward(), ContainsSubstring("undefined"));
  CHECK_THROWS_WITH(w.backward(values({1, 1})), ContainsSubstring("expected the result of an operation"));
  CHECK_THROWS_WITH(sum(Variable(values({1}))).backward(),
                    ContainsSubstring("variables that want gradients"));
  CHECK_THROWS_WITH((w * 2.0).backward(values({1})),
                    ContainsSubstring("expected a gradient float64 [2], got float64 [1]"));
  CHECK_THROWS_AS((w * 2.0).backward(values({1, 1}).to(DType::f32)), Error);
  (w * 2.0).backward(values({5, 7}));
  CHECK(grad_of(w) == Values{10, 14});
  w.zero_grad();
  (reshape(w, {1, 2}) * 2.0)
      .backward(Tensor::from<double>({1, 2}, {2, 1}).transpose(0, 1));  // a view will do
  CHECK(grad_of(w) == Values{2, 4});
}

TEST_CASE("a second backward over the same graph is an error", "[tape]") {
  const Variable w = parameter(values({1, 2}));
  const Variable shared = square(w);
  const Variable a = sum(shared), b = sum(shared * 2.0);
  a.backward();
  CHECK_THROWS_WITH(a.backward(), ContainsSubstring("already used and freed (the tape is first order)"));
  CHECK_THROWS_WITH(b.backward(), ContainsSubstring("square was already walked by an earlier backward"));
  w.zero_grad();
  sum(square(w)).backward();  // and nothing of it sticks
  CHECK(grad_of(w) == Values{2, 4});
}

TEST_CASE("a saved tensor changed in place is an error that names the operation", "[tape]") {
  const Variable w = parameter(values({1, 2}));
  const Variable x = w * 1.0;
  const Variable y = sum(square(x));
  x.value().fill(5);
  CHECK_THROWS_WITH(
      y.backward(),
      ContainsSubstring("square: a tensor that backward needs was changed in place after forward"));

  const Variable loss = sum(w * w);
  w.set_value(values({3, 4}));
  CHECK_THROWS_WITH(loss.backward(), ContainsSubstring("mul: a tensor"));

  const Variable view_loss = sum(square(slice(w, 0, 0, 1)));  // a change outside the view is not told apart
  w.value().slice(0, 1, 2).fill(0);
  CHECK_THROWS_AS(view_loss.backward(), Error);

  w.zero_grad();
  const Variable fine = sum(w * 2.0);  // needs no value of w
  w.set_value(values({8, 9}));
  CHECK_NOTHROW(fine.backward());
  CHECK(grad_of(w) == Values{2, 2});
}

TEST_CASE("a leaf's value can be replaced by one of its kind", "[tape]") {
  const Variable w = parameter(values({1, 2}));
  const void* address = w.value().raw();
  w.set_value(values({3, 4}));
  CHECK(w.value().to_vector() == Values{3, 4});
  CHECK(w.value().raw() == address);
  CHECK_THROWS_WITH(w.set_value(values({1})), ContainsSubstring("set_value: expected float64 [2]"));
  CHECK_THROWS_AS(w.set_value(values({1, 2}).to(DType::f32)), Error);
  CHECK_THROWS_AS((w * 2.0).set_value(values({1, 2})), Error);
  CHECK_THROWS_WITH(w.set_value({}), ContainsSubstring("undefined"));
  w.detach().set_value(values({5, 6}));  // one memory
  CHECK(w.value().to_vector() == Values{5, 6});
  const Variable repeated(values({7}).broadcast_to({3}));
  CHECK_THROWS_WITH(repeated.set_value(values({1, 2, 3})), ContainsSubstring("a view that was broadcast"));
  CHECK(repeated.value().to_vector() == Values{7, 7, 7});
}

TEST_CASE("the gradient that backward begins with may be any tensor, a leaf's own too", "[tape]") {
  const Variable x = parameter(values({1}));
  (x * 3.0).backward();
  const Tensor g = x.grad();
  x.zero_grad();
  (square(x) + x * 2.0).backward(g);
  CHECK(grad_of(x) == Values{12});
  CHECK_THROWS_WITH(sum(x).backward(Tensor()), ContainsSubstring("backward: expected a gradient, got an"));
}

TEST_CASE("sums and slices go through any number of dimensions, backward too", "[tape]") {
  const Variable x = parameter(values({1, 2, 3, 4, 5, 6}));
  const Variable nine = reshape(x, {1, 1, 2, 1, 1, 3, 1, 1, 1});
  sum(sum(nine, 5) * 2.0).backward();
  CHECK(grad_of(x) == Values(6, 2));
  x.zero_grad();
  sum(mean(reshape(x, {1, 1, 2, 1, 1, 3, 1, 1, 1}), 5)).backward();
  CHECK(grad_of(x)[0] == Approx(1.0 / 3));
  x.zero_grad();
  const Variable y = reshape(x, {1, 1, 2, 1, 1, 3, 1, 1, 1});
  (sum(slice(y, 5, 0, 2)) + sum(slice(y, -4, 1, 3))).backward();
  CHECK(grad_of(x) == Values{1, 2, 1, 1, 2, 1});
}

TEST_CASE("a number divided by a variable", "[tape]") {
  const Variable x = parameter(values({2, -4}));
  const Variable y = 8.0 / x;
  CHECK(y.value().to_vector() == Values{4, -2});
  sum(y).backward();
  CHECK(grad_of(x) == Values{-2, -0.5});
}

TEST_CASE("an error inside backward leaves the next one working", "[tape]") {
  const Variable w = parameter(values({1}));
  const Variable bad = make_output("bad", values({1}), {w * 1.0},
                                   [](const BackwardContext&) { throw Error("bad: on purpose"); });
  CHECK_THROWS_WITH(bad.backward(), ContainsSubstring("on purpose"));
  CHECK(grad_enabled());
  sum(w * 2.0).backward();
  CHECK(grad_of(w) == Values{2});
}

TEST_CASE("a chain of 200,000 operations neither runs out of stack nor of patience", "[tape]") {
  constexpr int kLength = 200000;
  const auto chain = [](Variable x) {
    for (int i = 0; i < kLength; ++i) x = neg(x);
    return x;
  };
  const Variable w = parameter(values({2}));
  sum(chain(w)).backward();
  CHECK(grad_of(w) == Values{1});
  const std::size_t before = allocated_bytes();
  {
    const Variable dropped = chain(w);
    CHECK(allocated_bytes() > before + kLength * sizeof(double));
  }
  CHECK(allocated_bytes() == before);  // without backward, too
}

TEST_CASE("backward frees what it has used as it goes", "[tape]") {
  constexpr std::int64_t kElements = 1 << 17;  // 1 MiB
  constexpr int kLength = 12;
  std::vector<std::size_t> live;
  const Variable w = parameter(Tensor::full({kElements}, 1, DType::f64));
  w.grad_buffer();
  const std::size_t before = allocated_bytes();
  {
    Variable x = w;
    for (int i = 0; i < kLength; ++i) {
      const Tensor kept = x.value().clone(), y = x.value().clone();
      x = make_output("keeper", y, {x}, [kept, &live](const BackwardContext& ctx) {
        live.push_back(allocated_bytes());
        ctx.accumulate(0, compute::scale(ctx.grad(), 2));
      });
    }
    x = sum(x);
    CHECK(allocated_bytes() >= before + kLength * kElements * sizeof(double));
    x.backward();
    // The loss itself is all that is left of the graph, though its variable lives on.
    CHECK(allocated_bytes() < before + 4096);
  }
  CHECK(allocated_bytes() == before);
  REQUIRE(live.size() == kLength);
  for (int i = 2; i < kLength; ++i) CHECK(live[i] + kElements * sizeof(double) <= live[i - 1] + 4096);
  CHECK(w.grad().to_vector()[7] == std::ldexp(1.0, kLength));
}

TEST_CASE("values and closures that nobody will differentiate are not kept", "[tape]") {
  const Variable c = Tensor::full({1 << 16}, 0.5);
  const std::size_t before = allocated_bytes();
  Variable x = c;
  for (int i = 0; i < 10; ++i) x = exp(x) * 0.1;
  CHECK(allocated_bytes() <= before + (1 << 16) * sizeof(float) * 9 / 8);
}

TEST_CASE("a leaf made of a view is dense, and so is its gradient, in the view's order", "[tape]") {
  const Tensor base = Tensor::from<double>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Variable w = parameter(base.transpose(0, 1));
  sum(square(w) * Variable(Tensor::from<double>({1, 0, 0, 1, 1, 0}, {3, 2}))).backward();
  CHECK(w.value().is_contiguous());
  CHECK(w.grad().shape() == Shape{3, 2});
  CHECK(w.grad().is_contiguous());
  CHECK(grad_of(w) == Values{2, 0, 0, 10, 6, 0});
}

TEST_CASE("gradients pass through views of views", "[tape]") {
  const Variable w = parameter(Tensor::from<double>({0, 1, 2, 3, 4, 5, 6, 7}, {2, 4}));
  const Variable view = transpose(slice(slice(w, 1, 1, 4), 0, 1, 2), 0, 1);  // 5, 6, 7 as a column
  CHECK(view.value().shares_storage_with(w.value()));
  sum(square(view)).backward();
  CHECK(grad_of(w) == Values{0, 0, 0, 0, 0, 10, 12, 14});
}

TEST_CASE("slices of one variable leave their gradients side by side", "[tape]") {
  const Variable w0 = parameter(values({1, 2, 3}));
  const Variable w = w0 * 1.0;
  (sum(slice(w, 0, 0, 2) * 10.0) + sum(slice(w, 0, 1, 3) * 100.0)).backward();
  CHECK(grad_of(w0) == Values{10, 110, 100});
}

TEST_CASE("ties of max share the gradient evenly", "[tape]") {
  const Variable x = parameter(Tensor::from<double>({1, 3, 3, 2, 2, 2}, {2, 3}));
  max(x, 1).backward(values({1, 3}));
  CHECK(grad_of(x) == Values{0, 0.5, 0.5, 1, 1, 1});
}

TEST_CASE("relu has slope 0 at 0", "[tape]") {
  const Variable x = parameter(values({-1, 0, 2}));
  sum(relu(x)).backward();
  CHECK(grad_of(x) == Values{0, 0, 1});
}

TEST_CASE("NaN is not swallowed", "[tape]") {
  const double nan = std::nan("");
  for (const DType dtype : {DType::f32, DType::f64}) {
    // Long enough for vector instructions, short enough for their tails.
    for (const std::size_t at : {std::size_t{0}, std::size_t{5}, std::size_t{18}}) {
      Values v(19, 0.5);
      v[at] = nan;
      const Variable x = values(v).to(dtype);
      for (const auto f : {neg, exp, log, sqrt, square, tanh, sigmoid, relu, gelu})
        CHECK(std::isnan(f(x).value().to_vector()[at]));
      CHECK(std::isnan(sum(x).item()));
      CHECK(std::isnan(max(x, 0).item()));
      CHECK(std::isnan(max(reshape(x, {19, 1}), 0).item()));
      CHECK(std::isnan(softmax(x).value().to_vector()[at]));
      CHECK(std::isnan(cross_entropy(reshape(x, {1, 19}), Tensor::zeros({1}, DType::i32)).item()));
      const Variable weight = Tensor::full({4, 19}, 0.1, dtype);
      const auto loss = linear_cross_entropy(reshape(x, {1, 19}), weight, Tensor::zeros({1}, DType::i32));
      CHECK(std::isnan(loss.item()));
    }
  }
}

TEST_CASE("dropout that is off changes nothing", "[tape]") {
  const Variable x = parameter(values({1, 2, 3, 4}));
  const Tensor counter = Tensor::zeros({3}, DType::i64);
  for (const Dropout& off : {Dropout{.rate = 0, .counter = counter}, Dropout{.rate = 0.5, .counter = {}}}) {
    const Variable y = dropout(x, off);
    CHECK(y.value().raw() == x.value().raw());
    x.zero_grad();
    y.backward(values({1, 2, 3, 4}));  // the result of an operation, as with a rate
    CHECK(grad_of(x) == Values{1, 2, 3, 4});
  }
  CHECK(residual_dropout(x, x, {.rate = 0.5, .counter = {}}).value().to_vector() == Values{2, 4, 6, 8});
}

TEST_CASE("dropout masks change with every part of their counter, and keep the rate", "[tape]") {
  const Variable ones = Tensor::full({1 << 16}, 1, DType::f64);
  const auto mask = [&](std::int64_t seed, std::int64_t step, std::int64_t micro, std::uint32_t site) {
    return dropout(
               ones,
               {.rate = 0.25, .site = site, .counter = Tensor::from<std::int64_t>({seed, step, micro}, {3})})
        .value()
        .to_vector();
  };
  const Values first = mask(1, 2, 3, 4);
  CHECK(first == mask(1, 2, 3, 4));
  int dropped = 0, kept = 0;
  for (const double m : first) {
    dropped += m == 0;
    kept += m == 1 / 0.75;
  }
  CHECK(dropped + kept == 65536);
  CHECK(dropped / 65536.0 == Approx(0.25).margin(0.008));  // 4.7 standard errors
  for (const Values& other : {mask(0, 2, 3, 4), mask(1, 3, 3, 4), mask(1, 2, 4, 4), mask(1, 2, 3, 5),
                              mask(1 + (1ll << 32), 2, 3, 4)}) {
    int same = 0;
    for (std::size_t i = 0; i < other.size(); ++i) same += other[i] == first[i];
    CHECK(same / 65536.0 == Approx(0.75 * 0.75 + 0.25 * 0.25).margin(0.01));
  }
}

TEST_CASE("numbers combine with variables of either dtype", "[tape]") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Variable x = parameter(values({1, 2, 4}).to(dtype));
    const Variable y = 1.0 - (2.0 * x + 3.0) * x / 2.0 - (-x) + (x - 0.5) + 0.25;
    CHECK(y.dtype() == dtype);
    CHECK(y.value().to_vector() == Values{0.25, -2.25, -13.25});
    sum(y).backward();
    CHECK(grad_of(x) == Values{-1.5, -3.5, -7.5});
  }
}
