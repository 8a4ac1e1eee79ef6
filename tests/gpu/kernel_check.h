// A kernel's bfloat16 version on the GPU beside its float64 version on the CPU, at the same rounded inputs.
//
//   const Operand x(draw.normal({3, 5}));
//   Operand y("y", Tensor::full({3, 5}, NAN), naive(4));
//   check_kernel({&y}, [&]<class T>(const Side<T>& on) {
//     softmax_forward<T>(on.exec, {.rows = 3, .n = 5, .log = false, .x = on(x), .y = on(y)});
//   });
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/exec.h"
#include "tensor/cuda/gpu.h"
#include "tensor/tensor.h"
#include "tests/support/catch.h"
#include "tests/support/gpu.h"
#if defined(WEDGE_EMULATOR)
#include "tests/support/emulator/emulator.h"
#endif

namespace wedge::test {

// How far a result may be from the truth:
//   |got - want| <= worst · (|want| + rms of want)  everywhere, and  rms of (got - want) <= rms · rms of want
struct Bound {
  double worst, rms;
};

// Twice the error of a naive composition, in which the result of every elementary step is rounded to
// bfloat16; sums and matrix products, whose running sums are float32 there too, are one step each. A rounding
// moves a number by up to 2^-8 of itself, 2^-9 on average. Of the k roundings on the longest way from an
// input to the result, which are independent, rms grows as sqrt(k) · 2^-9, and the worst of many elements is
// off by about k · 2^-9. Numbers that a whole row shares (means, norms, sums over it) weigh less and do not
// count. 0 roundings: the exact bits. Compositions of softmax, layernorm, gate, loss, Plücker features and
// attention written in NumPy bear the count out: 0.5 to 1.2 times that in rms, 0.6 to 3 times at worst.
inline Bound naive(int roundings) {
  return {2 * roundings * 0x1p-9, 2 * std::sqrt(static_cast<double>(roundings)) * 0x1p-9};
}

// What is float32 whatever the dtype (Stat<T>): the inputs are the same on both sides, so rounding to
// bfloat16 has no part in it.
inline constexpr Bound kFloat32{1e-5, 1e-5};

// Checks a result of an operation against it.
inline void check_close(const std::vector<double>& got, const std::vector<double>& want, const Bound& bound) {
  REQUIRE(got.size() == want.size());
  double squares = 0, errors = 0, worst = 0;
  for (const double w : want) squares += w * w;
  const double rms = std::sqrt(squares / static_cast<double>(want.size()));
  for (std::size_t k = 0; k < want.size(); ++k) {
    const double error = std::abs(got[k] - want[k]);
    worst = std::max(worst, error / (std::abs(want[k]) + rms));
    errors += error * error;
  }
  CHECK(worst <= bound.worst);
  CHECK(std::sqrt(errors / static_cast<double>(want.size())) <= bound.rms * rms);
}

// Checks that each of `both` is the sum of those beside it in a and b.
inline void check_sums(const std::vector<std::vector<double>>& both, std::vector<std::vector<double>> a,
                       const std::vector<std::vector<double>>& b, const Bound& bound) {
  for (std::size_t i = 0; i < both.size(); ++i) {
    CAPTURE(i);
    for (std::size_t k = 0; k < a[i].size(); ++k) a[i][k] += b[i][k];
    check_close(both[i], a[i], bound);
  }
}

// An argument of a kernel on both sides: of `dtype` on the GPU, with the same values in float64 (integers: as
// they are) on the CPU. One that a kernel writes has a name and a bound.
class Operand {
 public:
  Operand() = default;  // null on both sides
  explicit Operand(const Tensor& values, DType dtype = DType::bf16) : start_(values.to(dtype)) {
    host_ = is_floating(dtype) ? start_.to(DType::f64) : start_.clone();
    device_ = start_.to(Device::cuda);
  }
  Operand(std::string name, const Tensor& start, const Bound& bound, DType dtype = DType::bf16)
      : Operand(start, dtype) {
    name_ = std::move(name);
    bound_ = bound;
  }

  // float32 on the GPU, of which a kernel makes bfloat16 itself.
  static Operand to_be_rounded(const Tensor& values) {
    Operand x(values, DType::f32);
    x.host_ = x.start_.to(DType::bf16).to(DType::f64);
    return x;
  }

  // On the GPU, `elements` further than where allocations start: for kernels that read several at once.
  Operand shifted(std::int64_t elements) && {
    const std::int64_t n = start_.numel();
    device_ = Tensor::empty({n + elements}, start_.dtype(), Device::cuda).slice(0, elements, n + elements);
    device_.copy_from(start_.reshape({n}));
    return std::move(*this);
  }
  // The last dimension is so many results of sizes of their own.
  Operand in_parts(int parts) && {
    parts_ = parts;
    return std::move(*this);
  }

  bool defined() const { return start_.defined(); }
  const Tensor& on(Device device) const { return device == Device::cpu ? host_ : device_; }
  const std::string& name() const { return name_; }

  // The values that it was made with, on both sides.
  void restore() const {
    if (!defined()) return;
    host_.copy_from(start_);
    device_.copy_from(start_.reshape(device_.shape()));
  }

  // What is wrong with `got`, the result on the GPU, given the CPU's; "" if nothing is.
  std::string complaint(const std::vector<double>& got) const {
    const std::vector<double> want = host_.to_vector();
    const std::size_t row = host_.rank() > 0 ? static_cast<std::size_t>(host_.size(-1)) : 1;
    for (int part = 0; part < parts_; ++part) {
      double squares = 0, errors = 0, count = 0;
      const auto for_part = [&](const auto& body) {
        for (std::size_t i = 0; i < want.size(); ++i)
          if (parts_ == 1 || static_cast<int>(i % row * static_cast<std::size_t>(parts_) / row) == part)
            body(i);
      };
      for_part([&](std::size_t i) {
        squares += want[i] * want[i];
        errors += (got[i] - want[i]) * (got[i] - want[i]);
        ++count;
      });
      const double rms = std::sqrt(squares / std::max(1.0, count));
      std::string text;
      for_part([&](std::size_t i) {
        if (text.empty() && !(std::abs(got[i] - want[i]) <= bound_.worst * (std::abs(want[i]) + rms)))
          text =
              fmt::format("element {} of {}: {} instead of {}, rms {}", i, want.size(), got[i], want[i], rms);
      });
      const double error = std::sqrt(errors / std::max(1.0, count));
      if (text.empty() && !(error <= bound_.rms * rms))
        text = fmt::format("rms of the error is {}, of the result {}", error, rms);
      if (!text.empty()) return text;
    }
    return "";
  }

 private:
  Tensor start_, host_, device_;
  std::string name_;
  Bound bound_{};
  int parts_ = 1;
};

// The device that a kernel is called on, and its pointers: on(x) turns into whatever pointer is asked for.
template <class T>
struct Side {
  struct Pointer {
    const Tensor& tensor;
    template <class U>
    operator U*() const {
      return tensor.defined() ? tensor.data<std::remove_const_t<U>>() : nullptr;
    }
  };

  Exec exec;
  Pointer operator()(const Operand& x) const { return {x.on(exec.device)}; }
};

// Calls the kernel on the CPU in float64 and twice on the GPU in OnGpu, emulated ones in different orders of
// blocks and threads. Everything that it writes must be within its bound, and the same bits both times.
template <class OnGpu = BFloat16, class Call>
void check_kernel(std::initializer_list<const Operand*> results, const Call& call, Exec gpu = {}) {
  gpu.device = Device::cuda;
  gpu.stream = cu::stream();
  std::vector<std::vector<double>> got[2];
  for (auto& run : got) {
    for (const Operand* result : results) result->restore();
#if defined(WEDGE_EMULATOR)
    emulator::set_seed(emulator::draw());
#endif
    call(Side<OnGpu>{gpu});
    for (const Operand* result : results)
      run.push_back(result->defined() ? result->on(Device::cuda).to_vector() : std::vector<double>());
  }
  call(Side<double>{{Device::cpu}});
  std::size_t at = 0;
  for (const Operand* result : results) {
    const std::vector<double>&first = got[0][at], &again = got[1][at];
    ++at;
    if (!result->defined()) continue;
    INFO(result->name());
    CHECK(result->complaint(first) == "");
    CHECK((first.empty() || std::memcmp(first.data(), again.data(), first.size() * sizeof(double)) == 0));
  }
}

#if defined(WEDGE_EMULATOR)
// Meanwhile a block can have only so much shared memory.
struct LessSharedMemory {
  explicit LessSharedMemory(std::size_t bytes) { emulator::set_shared_memory(bytes); }
  ~LessSharedMemory() { emulator::set_shared_memory(227 * 1024); }
  LessSharedMemory(const LessSharedMemory&) = delete;
  LessSharedMemory& operator=(const LessSharedMemory&) = delete;
};
#endif

// Rows that a kernel makes of rows alone must not depend on how many it is called for, though it takes other
// tiles for many. `make(first, count)`, the result [count, ...] of these rows, is called for all of them and
// for some of the first, of the middle and of the last. Tiles that add in another order differ in float32's
// last bits: `same_order` false lets one in 200 elements of a bfloat16 result fall to a neighbour when it is
// rounded, and what cancels be apart by that noise.
template <class Make>
void check_rows_alone(std::int64_t rows, std::int64_t count, const Make& make, bool same_order = true) {
  const std::vector<double> all = make(std::int64_t{0}, rows).to_vector();
  const std::size_t row = all.size() / static_cast<std::size_t>(rows);
  for (const std::int64_t first : {std::int64_t{0}, (rows - count) / 2, rows - count}) {
    CAPTURE(first);
    const std::vector<double> some = make(first, count).to_vector();
    REQUIRE(some.size() == static_cast<std::size_t>(count) * row);
    const double* const those = &all[static_cast<std::size_t>(first) * row];
    if (same_order) {
      CHECK(std::memcmp(some.data(), those, some.size() * sizeof(double)) == 0);
      continue;
    }
    double squares = 0;
    for (const double x : some) squares += x * x;
    const double noise = 1e-5 * std::sqrt(squares / static_cast<double>(some.size()));
    std::size_t apart = 0, far = 0;
    for (std::size_t i = 0; i < some.size(); ++i) {
      apart += some[i] != those[i];
      far += !(std::abs(some[i] - those[i]) <= std::abs(those[i]) / 128 + noise);  // NaN is far
    }
    CHECK(apart <= some.size() / 200);
    CHECK(far == 0);
  }
}

// What a result holds before the kernel: what must not show, or something, where it is added to.
inline Tensor unset(const Shape& shape) {
  return Tensor::full(shape, NAN);
}
inline Tensor before(bool added_to, const Tensor& something) {
  return added_to ? something : unset(something.shape());
}

// Those that bfloat16 has instead of these values.
inline Tensor in_bf16(const Tensor& values) {
  return values.to(DType::bf16).to(values.dtype());
}

// The factor of a product in a kernel of OnGpu: in bfloat16, or in float32, of which the kernel makes it.
template <class OnGpu>
Operand factor(const Tensor& values) {
  return std::is_same_v<OnGpu, float> ? Operand::to_be_rounded(values) : Operand(values);
}

// Rows of a hidden state.
struct RowsOfState {
  std::int64_t rows, D;
};

// A copy that is dense, but not all of the memory that it lies in: no copy in bfloat16 is kept with it.
inline Tensor part_of(const Tensor& t) {
  Shape shape = t.shape();
  shape[0] *= 2;
  Tensor part = Tensor::zeros(shape, t.dtype()).to(t.device()).slice(0, t.size(0), 2 * t.size(0));
  part.copy_from(t);
  return part;
}

}  // namespace wedge::test
