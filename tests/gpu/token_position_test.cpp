// The kernels of token_position_embedding in bfloat16, with and without the order that forward makes.
#include <algorithm>

#include "kernels/embedding.h"
#include "tests/cases/case.h"
#include "tests/cases/reference.h"
#include "tests/gpu/kernel_check.h"

using namespace wedge;
using namespace wedge::test;
using cases::Draw;

namespace {

struct Size {
  std::int64_t B, L, V, D, shift;
  double rate;
};
constexpr std::uint32_t kSite = 2;

}  // namespace

TEST_CASE("gpu: token_position_embedding in bfloat16", "[gpu][bf16]") {
  if (skip_without_gpu()) return;
  for (const Size& s : {Size{1, 1, 1, 1, 0, 0.1},
                        {33, 3, 9, 40, 0, 0.1},
                        {33, 3, 9, 40, 3, 0.1},
                        {3, 70, 11, 7, 0, 0.5},
                        {2, 31, 500, 132, 0, 0},
                        {301, 2, 1, 8, 0, 0.1},       // one run, longer than a block looks at once
                        {17, 241, 40, 4, 0, 0.1}}) {  // 4,097
    CAPTURE(s.B, s.L, s.V, s.D, s.shift, s.rate);
    const std::int64_t rows = s.B * s.L;
    Draw draw(21, DType::f64);
    const Operand ids(draw.ids({s.B, s.L}, s.V), DType::i32);
    const Tensor token_values = draw.normal({s.V, s.D}), position_values = draw.normal({s.L, s.D});
    const Operand tokens = Operand(token_values).shifted(s.shift), positions(position_values);
    const Operand counter(Tensor::from<std::int64_t>({4, 5, 6}, {3}), DType::i64);
    const auto mask = [&](const auto& on) { return DropoutMask{s.rate, kSite, on(counter)}; };
    const bool ordered = rows <= kOrderedInForward;
    const Tensor order = Tensor::empty({rows, 2}, DType::i32, Device::cuda);
    const auto order_on = [&](const Exec& exec) {
      return exec.device == Device::cuda && ordered ? order.data<std::int32_t>() : nullptr;
    };

    const Operand y("y", unset({s.B, s.L, s.D}), naive(2));
    const Operand rounded("rounded", unset({s.B, s.L, s.D}), naive(2));
    check_kernel({&y, &rounded}, [&]<class T>(const Side<T>& on) {
      token_position_forward<T>(
          on.exec, {s.B, s.L, s.V, s.D, on(ids), on(tokens), on(positions), mask(on), on(y),
                    on.exec.device == Device::cuda ? static_cast<BFloat16*>(on(rounded)) : nullptr,
                    order_on(on.exec)});
      if (on.exec.device == Device::cpu) rounded.on(Device::cpu).copy_from(y.on(Device::cpu));
    });
    // The sum and the product are rounded, one after the other.
    const auto bf16 = [](const Tensor& t) { return t.to(DType::bf16).to(DType::f32); };
    const Variable sum = embedding(bf16(token_values), ids.on(Device::cpu)) + Variable(bf16(position_values));
    const Variable kept =
        cases::dropout_mask_of({s.B, s.L, s.D}, s.rate, kSite, counter.on(Device::cpu), DType::f32);
    const std::vector<double> want = bf16((kept * Variable(bf16(sum.value()))).value()).to_vector();
    CHECK(y.on(Device::cuda).to_vector() == want);
    CHECK(rounded.on(Device::cuda).to_vector() == want);
    if (ordered) {
      const std::vector<double> at = ids.on(Device::cpu).to_vector();
      std::vector<double> pairs;
      std::vector<std::int64_t> places(static_cast<std::size_t>(rows));
      for (std::int64_t t = 0; t < rows; ++t) places[static_cast<std::size_t>(t)] = t;
      std::stable_sort(places.begin(), places.end(), [&](std::int64_t a, std::int64_t b) {
        return at[static_cast<std::size_t>(a)] < at[static_cast<std::size_t>(b)];
      });
      for (const std::int64_t t : places) {
        pairs.push_back(at[static_cast<std::size_t>(t)]);
        pairs.push_back(static_cast<double>(t));
      }
      CHECK(order.to_vector() == pairs);
    }

    const Operand dy(draw.normal({s.B, s.L, s.D}));
    struct Wanted {
      bool tokens, positions, add, ordered;
    };
    for (const Wanted& w : {Wanted{true, true, false, true},
                            {true, true, true, false},
                            {true, false, true, true},
                            {false, true, false, false}}) {
      CAPTURE(w.tokens, w.positions, w.add, w.ordered);
      const auto result = [&](const char* name, bool wanted, std::int64_t n) {
        return wanted ? Operand(name, before(w.add, draw.normal({n, s.D})), kFloat32, DType::f32) : Operand();
      };
      const Operand dtokens = result("dtokens", w.tokens, s.V);
      const Operand dpositions = result("dpositions", w.positions, s.L);
      check_kernel({&dtokens, &dpositions}, [&]<class T>(const Side<T>& on) {
        const Sink<Stat<T>> to_tokens{on(dtokens), w.add}, to_positions{on(dpositions), w.add};
        token_position_backward<T>(
            on.exec, {s.B, s.L, s.V, s.D, on(ids), w.ordered ? order_on(on.exec) : nullptr, on(dy), mask(on),
                      to_tokens, to_positions});
      });
    }
  }
}
