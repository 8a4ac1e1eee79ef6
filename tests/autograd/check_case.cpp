#include "tests/autograd/check_case.h"

#include <cmath>
#include <cstring>
#include <optional>

#include "autograd/gradcheck.h"
#include "tests/support/threads.h"

namespace wedge::test {
namespace {

using cases::Case;
using cases::Inputs;
using Function = std::function<Variable(const Inputs&)>;

// Central differences evaluate the operation twice for each element.
constexpr std::int64_t kGradcheckElements = 400;

// The value of an operation and the gradients of its inputs; undefined where none was wanted or none arrived.
struct Result {
  Tensor value;
  std::vector<Tensor> grads;
};

// dL/dy: fixed numbers that float32 holds exactly.
Tensor incoming(const Tensor& y) {
  Rng rng(0xd1);
  return Tensor::uniform(y.shape(), rng, -1, 1, DType::f32).to(y.dtype()).to(y.device());
}

std::vector<Tensor> convert(const std::vector<Tensor>& tensors, DType dtype) {
  std::vector<Tensor> out;
  for (const Tensor& t : tensors) out.push_back(is_floating(t.dtype()) ? t.to(dtype) : t.clone());
  return out;
}

// Leaves on fresh copies; `wanted` says which of the floating ones want a gradient (default: all).
Inputs leaves_of(const std::vector<Tensor>& tensors, const std::vector<bool>& wanted = {}) {
  Inputs leaves;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    leaves.emplace_back(tensors[i].clone(), is_floating(tensors[i].dtype()) && (wanted.empty() || wanted[i]));
  return leaves;
}

Result finish(const Variable& y, const Inputs& leaves) {
  Result result{y.value().clone(), {}};
  if (y.requires_grad()) y.backward(incoming(y.value()));
  for (const Variable& leaf : leaves) result.grads.push_back(leaf.grad());
  return result;
}

Result evaluate(const Function& f, const std::vector<Tensor>& tensors, const std::vector<bool>& wanted = {}) {
  const Inputs leaves = leaves_of(tensors, wanted);
  return finish(f(leaves), leaves);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.to(Device::cpu).contiguous().raw(), b.to(Device::cpu).contiguous().raw(),
                     static_cast<std::size_t>(a.numel()) * size_of(a.dtype())) == 0;
}

class Checker {
 public:
  Checker(const Case& c, const Target& target, std::vector<std::string>& failures)
      : case_(c), target_(target), failures_(failures) {
    tensors_ = c.inputs(target.dtype);
    wide_ = convert(tensors_, DType::f64);
    for (Tensor& tensor : tensors_) tensor = tensor.to(target.device);
    want_ = evaluate(reference(), wide_);
    for (std::size_t i = 0; i < tensors_.size(); ++i)
      if (is_floating(tensors_[i].dtype())) floating_.push_back(i);
  }

  void run_all() {
    step("value and gradients", [&] { compare_all("", evaluate(case_.run, tensors_), want_); });
    step("again", [&] { again(); });
    step("added gradients", [&] { added(); });
    step("two backward passes", [&] { twice(); });
    step("some inputs", [&] { some_inputs(); });
    step("one variable twice", [&] { aliased(); });
    step("transposed views", [&] { transposed(); });
    if (target_.device == Device::cpu) step("threads", [&] { threads(); });
    step("changed in place", [&] { changed_in_place(); });
    if (target_.device == Device::cpu && target_.dtype == DType::f64)
      step("gradcheck", [&] { check_gradients(case_.run, wide_); });
  }

 private:
  const Function& reference() const { return case_.twin ? case_.twin : case_.run; }

  void fail(const std::string& what) {
    failures_.push_back(fmt::format("{} ({}) {} {}, {}: {}", case_.op, case_.sizes, name_of(target_.device),
                                    name_of(target_.dtype), step_, what));
  }

  template <class Body>
  void step(const char* name, Body&& body) {
    step_ = name;
    try {
      body();
      check_guards();
    } catch (const std::exception& error) {
      fail(error.what());
    }
  }

  void compare(const std::string& what, const Tensor& got, const Tensor& want) {
    if (got.shape() != want.shape() || got.dtype() != target_.dtype)
      return fail(fmt::format("{}: expected {} {}, got {} {}", what, name_of(target_.dtype),
                              to_string(want.shape()), name_of(got.dtype()), to_string(got.shape())));
    const std::vector<double> g = got.to_vector(), w = want.to_vector();
    double rms = 0;
    for (const double x : w) rms += x * x;
    rms = std::sqrt(rms / std::max<double>(1, static_cast<double>(w.size())));
    const double tolerance = target_.dtype == DType::f64 ? case_.tolerance.f64 : case_.tolerance.f32;
    double worst = 0;
    std::size_t at = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double error = std::abs(g[i] - w[i]);
      const double allowed = tolerance * (std::abs(w[i]) + std::max(rms, case_.tolerance.floor));
      const double ratio = error == 0 ? 0 : std::isnan(error) ? HUGE_VAL : error / allowed;
      if (ratio > worst) {
        worst = ratio;
        at = i;
      }
    }
    if (worst > 1)
      fail(fmt::format("{}: element {} of {} is {}, expected {} (rms {}, {:.1f} times the tolerance {})",
                       what, at, w.size(), g[at], w[at], rms, worst, tolerance));
  }

  void compare_grad(std::size_t i, const Tensor& got, const Tensor& want) {
    const std::string what = fmt::format("gradient of input {}", i);
    if (!got.defined()) return fail(what + " is missing");
    // A twin may leave out an input on which nothing depends.
    compare(what, got, want.defined() ? want : Tensor::zeros(tensors_[i].shape(), DType::f64));
  }

  void compare_all(const std::string& prefix, const Result& got, const Result& want) {
    compare(prefix + "value", got.value, want.value);
    for (const std::size_t i : floating_) compare_grad(i, got.grads[i], want.grads[i]);
  }

  void again() {
    const Result first = evaluate(case_.run, tensors_), second = evaluate(case_.run, tensors_);
    if (!same_bits(first.value, second.value)) fail("the value has other bits");
    for (const std::size_t i : floating_)
      if (first.grads[i].defined() && !same_bits(first.grads[i], second.grads[i]))
        fail(fmt::format("the gradient of input {} has other bits", i));
  }

  // Consumers that were recorded later leave c_i in the inputs' gradients first; the operation must add to
  // it.
  void added() {
    const Inputs leaves = leaves_of(tensors_);
    Inputs middle = leaves;
    for (const std::size_t i : floating_) middle[i] = leaves[i] * 1.0;
    const Variable y = case_.run(middle);
    Variable total = sum(y * Variable(incoming(y.value())));
    std::vector<Tensor> constants(tensors_.size());
    for (const std::size_t i : floating_) {
      constants[i] = incoming(tensors_[i]);
      total = total + sum(middle[i] * Variable(constants[i]));
    }
    total.backward();
    for (const std::size_t i : floating_) {
      const Variable constant = constants[i].to(Device::cpu).to(DType::f64);
      const Tensor want =
          want_.grads[i].defined() ? (constant + Variable(want_.grads[i])).value() : constant.value();
      compare_grad(i, leaves[i].grad(), want);
    }
  }

  void twice() {
    const Inputs leaves = leaves_of(tensors_);
    for (int pass = 0; pass < 2; ++pass) finish(case_.run(leaves), leaves);
    for (const std::size_t i : floating_)
      compare_grad(i, leaves[i].grad(),
                   want_.grads[i].defined() ? (Variable(want_.grads[i]) * 2.0).value() : Tensor());
  }

  void some_inputs() {
    const Inputs constants = leaves_of(tensors_, std::vector<bool>(tensors_.size(), false));
    const Variable y = case_.run(constants);
    if (y.requires_grad()) fail("records a graph though no input wants a gradient");
    compare("value without a graph", y.value(), want_.value);
    {
      const NoGradGuard no_grad;
      if (case_.run(leaves_of(tensors_)).requires_grad()) fail("records a graph in no-grad mode");
    }
    for (const std::size_t i : floating_) {
      std::vector<bool> wanted(tensors_.size(), false);
      wanted[i] = true;
      const Result only = evaluate(case_.run, tensors_, wanted);
      compare(fmt::format("value when only input {} wants a gradient", i), only.value, want_.value);
      for (const std::size_t k : floating_) {
        if (k == i)
          compare_grad(k, only.grads[k], want_.grads[k]);
        else if (only.grads[k].defined())
          fail(fmt::format("input {} got a gradient that it does not want", k));
      }
    }
  }

  void aliased() {
    for (const std::size_t i : floating_)
      for (const std::size_t k : floating_) {
        if (k <= i || tensors_[k].shape() != tensors_[i].shape()) continue;
        const auto alias = [i, k](const Function& f) -> Function {
          return [f, i, k](const Inputs& in) {
            Inputs same = in;
            same[k] = in[i];
            return f(same);
          };
        };
        if (!case_.twin) {
          check_gradients(alias(case_.run), wide_);
          continue;
        }
        const Result got = evaluate(alias(case_.run), tensors_), want = evaluate(alias(case_.twin), wide_);
        compare(fmt::format("value with input {} also as input {}", i, k), got.value, want.value);
        compare_grad(i, got.grads[i], want.grads[i]);
      }
  }

  // The leaves hold the transposes, the operation gets views of the values that it is used to.
  void transposed() {
    Inputs leaves, views;
    for (const Tensor& t : tensors_) {
      const bool turn = t.rank() >= 2;
      leaves.emplace_back(turn ? t.transpose(-2, -1).clone() : t.clone(), is_floating(t.dtype()));
      views.push_back(!turn                           ? leaves.back()
                      : leaves.back().requires_grad() ? transpose(leaves.back(), -2, -1)
                                                      : Variable(leaves.back().value().transpose(-2, -1)));
    }
    const Result got = finish(case_.run(views), leaves);
    compare("value", got.value, want_.value);
    for (const std::size_t i : floating_) {
      const Tensor& grad = got.grads[i];
      compare_grad(i, grad.defined() && grad.rank() >= 2 ? grad.transpose(-2, -1) : grad, want_.grads[i]);
    }
  }

  void threads() {
    for (const int count : {1, 3}) {
      const Threads some(count);
      compare_all(fmt::format("{} threads, ", count), evaluate(case_.run, tensors_), want_);
    }
  }

  // `position` numbers an input, or stands for the output.
  void changed_in_place() {
    const std::size_t output = tensors_.size();
    for (std::size_t position = 0; position <= output; ++position) {
      const Inputs leaves = leaves_of(tensors_);
      const Variable y = case_.run(leaves);
      Tensor changed = position == output ? y.value() : leaves[position].value();
      changed.fill(0.25);
      std::optional<std::string> error;
      try {
        y.backward(incoming(y.value()));
      } catch (const Error& e) {
        error = e.what();
      }
      if (error) {
        if (error->find("changed in place") == std::string::npos) fail("wrong error: " + *error);
        continue;
      }
      for (const std::size_t i : floating_) compare_grad(i, leaves[i].grad(), want_.grads[i]);
    }
  }

  void check_gradients(const Function& f, const std::vector<Tensor>& tensors) {
    std::int64_t elements = 0;
    for (const std::size_t i : floating_) elements += tensors[i].numel();
    if (!case_.gradcheck || elements > kGradcheckElements) {
      if (!case_.twin) fail("neither a twin nor small and smooth enough for gradcheck");
      return;
    }
    const Threads one(1);  // thousands of evaluations that are too small to share
    const GradcheckResult result = gradcheck(f, leaves_of(tensors));
    if (!result.ok) fail(fmt::format("gradcheck: {} ({} times the tolerance)", result.message, result.worst));
  }

  const Case& case_;
  Target target_;
  std::vector<std::string>& failures_;
  const char* step_ = "twin";
  std::vector<Tensor> tensors_, wide_;
  std::vector<std::size_t> floating_;
  Result want_;
};

struct TestMode {
  TestMode() { set_guard_bands(true); }
  ~TestMode() { set_guard_bands(false); }
};

}  // namespace

std::vector<Target> cpu_targets() {
  return {{Device::cpu, DType::f64}, {Device::cpu, DType::f32}};
}
std::vector<Target> gpu_targets() {
  return {{Device::cuda, DType::f32}};
}

std::vector<std::string> check_case(const Case& c, const std::vector<Target>& targets) {
  const TestMode mode;
  std::vector<std::string> failures;
  for (const Target& target : targets) {
    try {
      Checker(c, target, failures).run_all();
    } catch (const std::exception& error) {
      failures.push_back(fmt::format("{} ({}) twin in float64: {}", c.op, c.sizes, error.what()));
    }
  }
  return failures;
}

}  // namespace wedge::test
