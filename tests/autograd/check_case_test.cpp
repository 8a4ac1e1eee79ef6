// The checks of check_case.h catch what they are there for: a product that is right passes, and each way of
// spoiling it is reported by the step that looks for it.
#include "tests/autograd/check_case.h"

#include <omp.h>

#include <algorithm>

#include "autograd/compute.h"
#include "tests/support/catch.h"

using namespace wedge;

namespace {

enum class Fault {
  none,
  wrong_value,            // by a part in 10⁹
  wrong_gradient,         // of the second input, by a part in 10⁴
  missing_gradient,       // of the first input
  assigns_when_adding,    // overwrites what consumers left
  other_bits_each_time,   // within every tolerance
  depends_on_threads,     //
  writes_past_the_end,    // of the output
  writes_before_a_sink,   // one element in front of a gradient
  leaves_an_element,      // of the second gradient unwritten
  reads_unwritten,        // memory that it has just asked for
  ignores_strides,        //
  ignores_later_changes,  // of its inputs between forward and backward
  saves_a_wrong_version,  // refuses although nothing was changed
  fills_sinks_in_wrong_order,
};

// a ∘ b of dense [n], with a fault.
Variable product(const Variable& a, const Variable& b, Fault fault) {
  static int calls = 0;
  const bool dense = fault != Fault::ignores_strides;
  const Tensor x = dense ? a.value().contiguous() : a.value(), y = dense ? b.value().contiguous() : b.value();
  const Tensor out = Tensor::empty(a.shape(), a.dtype());
  const std::int64_t n = out.numel();
  visit_floating(a.dtype(), "product", [&]<class T>(T) {
    T* z = out.data<T>();
    for (std::int64_t i = 0; i < n; ++i) z[i] = x.data<T>()[i] * y.data<T>()[i];
    if (fault == Fault::wrong_value) z[n / 2] *= T(1.0 + 1e-9);
    if (fault == Fault::other_bits_each_time)
      z[0] *= T(1) + std::numeric_limits<T>::epsilon() * T(++calls % 2);
    if (fault == Fault::depends_on_threads) z[0] *= T(1 + 0.001 * omp_get_max_threads());
    if (fault == Fault::writes_past_the_end) z[n] = T(0);
    if (fault == Fault::reads_unwritten) z[0] += T(0) * Tensor::empty({1}, a.dtype()).data<T>()[0];
  });
  const Saved saved_x(x), saved_y(y);
  if (fault == Fault::saves_a_wrong_version) y.bump_version();
  return make_output("product", out, {a, b}, [=](const BackwardContext& ctx) {
    const bool checks = fault != Fault::ignores_later_changes;
    const Tensor u = checks ? saved_x.get("product") : x, v = checks ? saved_y.get("product") : y;
    const bool swapped = fault == Fault::fills_sinks_in_wrong_order;
    GradSink sinks[2];
    for (const int i : {0, 1})
      if (!(fault == Fault::missing_gradient && i == 0)) sinks[i] = ctx.sink(i);
    visit_floating(a.dtype(), "product", [&]<class T>(T) {
      for (const int i : swapped ? std::vector{1, 0} : std::vector{0, 1}) {
        if (!sinks[i]) continue;
        const bool add = sinks[i].add && fault != Fault::assigns_when_adding;
        const T scale = fault == Fault::wrong_gradient && i == 1 ? T(1 + 1e-4) : T(1);
        const T *other = (i == 0 ? v : u).template data<T>(), *dy = ctx.grad().data<T>();
        T* dx = sinks[i].tensor.template data<T>();
        for (std::int64_t k = 0; k < n; ++k) {
          if (fault == Fault::leaves_an_element && i == 1 && k == n - 1 && !add) continue;
          dx[k] = (add ? dx[k] : T(0)) + scale * dy[k] * other[k];
        }
        if (fault == Fault::writes_before_a_sink) dx[-1] = T(0);
      }
    });
  });
}

struct Product {
  Fault fault = Fault::none;
  std::int64_t n = 12;
  bool judged_by_twin = true;

  std::string name() const { return "product"; }
  std::string sizes() const { return fmt::format("n={} fault={}", n, static_cast<int>(fault)); }
  std::vector<Tensor> inputs(DType dtype) const {
    cases::Draw draw(1, dtype);
    return {draw.uniform({n / 4, 4}, 0.5, 2), draw.uniform({n / 4, 4}, -2, -0.5)};
  }
  Variable run(const cases::Inputs& in) const { return product(in[0], in[1], fault); }
};

std::vector<std::string> failures_of(const Product& op) {
  cases::Case c = cases::make_case(op);
  if (op.judged_by_twin) c.twin = [](const cases::Inputs& in) { return mul(in[0], in[1]); };
  return test::check_case(c);
}

// Whether a failure of that step, with all of that text, is among them.
bool reports(const std::vector<std::string>& failures, const std::string& step, const std::string& text) {
  return std::any_of(failures.begin(), failures.end(), [&](const std::string& failure) {
    return failure.find(", " + step + ": ") != std::string::npos && failure.find(text) != std::string::npos;
  });
}

}  // namespace

TEST_CASE("a right operation passes, with a twin and without", "[check_case]") {
  CHECK(failures_of({}).empty());
  CHECK(failures_of({.judged_by_twin = false}).empty());
}

TEST_CASE("every fault of an operation is reported by its step", "[check_case]") {
  struct Expected {
    Fault fault;
    const char *step, *text;
  };
  const Expected expected = GENERATE(values<Expected>({
      {Fault::wrong_value, "value and gradients", "value: element 6 of 12"},
      {Fault::wrong_gradient, "value and gradients", "gradient of input 1"},
      {Fault::wrong_gradient, "gradcheck", "input 1, element"},
      {Fault::missing_gradient, "value and gradients", "gradient of input 0 is missing"},
      {Fault::assigns_when_adding, "added gradients", "gradient of input 0"},
      {Fault::assigns_when_adding, "two backward passes", "gradient of input 1"},
      {Fault::other_bits_each_time, "again", "the value has other bits"},
      {Fault::depends_on_threads, "threads", "value: element 0"},
      {Fault::writes_past_the_end, "value and gradients", "outside its bounds"},
      {Fault::writes_before_a_sink, "value and gradients", "outside its bounds"},
      {Fault::leaves_an_element, "value and gradients", "gradient of input 1: element 11"},
      {Fault::reads_unwritten, "value and gradients", "value: element 0"},
      {Fault::ignores_strides, "transposed views", "value: element"},
      {Fault::ignores_later_changes, "changed in place", "gradient of input 0"},
      {Fault::saves_a_wrong_version, "value and gradients", "changed in place"},
      {Fault::fills_sinks_in_wrong_order, "one variable twice", "gradient of input 0"},
  }));
  const auto failures = failures_of({.fault = expected.fault});
  CAPTURE(expected.step, expected.text, failures);
  CHECK(reports(failures, expected.step, expected.text));
  for (const std::string& failure : failures)
    CHECK_THAT(failure, Catch::Matchers::ContainsSubstring("product (n=12 fault="));
}

TEST_CASE("without a twin gradcheck must be possible, and judges", "[check_case]") {
  CHECK(reports(failures_of({.n = 4000, .judged_by_twin = false}), "gradcheck", "neither a twin nor"));
  CHECK(reports(failures_of({.fault = Fault::wrong_gradient, .judged_by_twin = false}), "gradcheck",
                "input 1, element"));
}

TEST_CASE("a twin that differs by little is rejected in float64 only where it should be", "[check_case]") {
  cases::Case c = cases::make_case(Product{});
  for (const auto& [factor, ok] : {std::pair{1 + 1e-10, false}, std::pair{1 + 1e-14, true}}) {
    c.twin = [factor = factor](const cases::Inputs& in) { return mul(in[0], in[1]) * factor; };
    CHECK(test::check_case(c).empty() == ok);
  }
}
