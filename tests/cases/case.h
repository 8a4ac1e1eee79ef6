// One operation at one set of sizes, as the tests and the benchmark see it. tests/README.md says how to add
// one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/ops.h"
#include "tensor/rng.h"

namespace wedge::cases {

using Inputs = std::vector<Variable>;

// The largest error allowed, for every element of the value and of each gradient:
//   |got - want| <= tolerance · (|want| + max(rms of want, floor))
// where `want` comes from the twin in float64 at the same inputs. The defaults are rounding: a sum of K terms
// is off by about sqrt(K) units, a few times that in the worst of many elements. A case names others only
// with a reason.
struct Tolerance {
  double f64 = 1e-12;
  double f32 = 1e-5;
  double floor = 0;  // size of the terms that cancel, where the exact result is zero
};

// Arithmetic and memory traffic of one call, counted by hand.
struct Work {
  double flops = 0;  // 2 M N K for a product
  // What must be moved in float32, each tensor once: forward reads the inputs and writes the output; backward
  // reads that one's gradient and what else it needs, and writes those of the inputs. What it needs that is
  // neither input nor output (kept: statistics of rows, what only another product could make again) is
  // written by a forward that records alone: backward counts it as written and as read. What kernels leave for
  // each other, or for the next operation, such as the result's bfloat16 copy, is not counted.
  double bytes = 0;
  // Those of them that products of bfloat16 factors halve: weights, whose copies are at hand, and what is
  // between two products.
  double halved = 0;

  double bytes_with(bool bf16_products) const { return bytes - (bf16_products ? halved / 2 : 0); }
};

// A case without its type. Inputs are drawn from the case's seed in the given dtype (integer ones keep
// theirs) and handed to `run` and `twin` in that order.
struct Case {
  std::string op;
  std::string sizes;  // every parameter, for the message of a failing test
  std::function<std::vector<Tensor>(DType)> inputs;
  std::function<Variable(const Inputs&)> run;
  std::function<Variable(const Inputs&)>
      twin;  // the same made of simpler parts; empty: gradcheck is the judge
  Tolerance tolerance;
  bool gradcheck = true;  // false where central differences would step over a kink
  Work forward;           // without a graph
  Work backward;          // and what forward does more where it records one
};

// Erases the type of an op's struct. It has name(), sizes(), inputs(dtype), run(in) and, where they apply,
// twin(in), tolerance(), gradcheck(), forward_work() and backward_work().
template <class Op>
Case make_case(const Op& op) {
  Case c;
  c.op = op.name();
  c.sizes = op.sizes();
  c.inputs = [op](DType dtype) { return op.inputs(dtype); };
  c.run = [op](const Inputs& in) { return op.run(in); };
  if constexpr (requires(Inputs in) { op.twin(in); }) c.twin = [op](const Inputs& in) { return op.twin(in); };
  if constexpr (requires { op.tolerance(); }) c.tolerance = op.tolerance();
  if constexpr (requires { op.gradcheck(); }) c.gradcheck = op.gradcheck();
  if constexpr (requires { op.forward_work(); }) c.forward = op.forward_work();
  if constexpr (requires { op.backward_work(); }) c.backward = op.backward_work();
  return c;
}

template <class Op>
std::vector<Case> make_cases(const std::vector<Op>& ops) {
  std::vector<Case> cases;
  for (const Op& op : ops) cases.push_back(make_case(op));
  return cases;
}

inline std::vector<Case> operator+(std::vector<Case> a, const std::vector<Case>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Draws a case's inputs: the same numbers, rounded, whatever the dtype.
class Draw {
 public:
  Draw(std::uint64_t seed, DType dtype) : rng_(seed), dtype_(dtype) {}
  Tensor normal(Shape shape, double deviation = 1, double mean = 0) {
    return Tensor::normal(std::move(shape), rng_, mean, deviation, dtype_);
  }
  Tensor uniform(Shape shape, double low, double high) {
    return Tensor::uniform(std::move(shape), rng_, low, high, dtype_);
  }
  // int32 in [0, n)
  Tensor ids(Shape shape, std::int64_t n) {
    const Tensor t = Tensor::empty(std::move(shape), DType::i32);
    for (std::int64_t i = 0; i < t.numel(); ++i)
      t.data<std::int32_t>()[i] = static_cast<std::int32_t>(rng_.below(static_cast<std::uint64_t>(n)));
    return t;
  }

 private:
  Rng rng_;
  DType dtype_;
};

}  // namespace wedge::cases
