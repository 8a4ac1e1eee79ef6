// token_position_embedding beside the operations that it is made of: the same bits, forward and backward.
#include "tests/cases/case.h"
#include "tests/support/catch.h"
#include "tests/support/gpu.h"

using namespace wedge;
using cases::Draw;

namespace {

struct Size {
  std::int64_t B, L, V, P, D, begin;
  double rate;
};

// y and the gradients of both tables after two backward passes, the second of which adds.
std::vector<std::vector<double>> run(const Size& s, DType dtype, Device device, bool fused) {
  Draw draw(31, dtype);
  const Variable tokens = parameter(draw.normal({s.V, s.D}).to(device));
  const Variable positions = parameter(draw.normal({s.P, s.D}).to(device));
  const Tensor ids = draw.ids({s.B, s.L}, s.V).to(device), dy = draw.normal({s.B, s.L, s.D}).to(device);
  const Dropout drop{s.rate, 3, Tensor::from<std::int64_t>({9, 8, 7}, {3}).to(device)};
  Variable y;
  for (int pass = 0; pass < 2; ++pass) {
    y = fused ? token_position_embedding(tokens, positions, ids, s.begin, drop)
              : dropout(embedding(tokens, ids) + slice(positions, 0, s.begin, s.begin + s.L), drop);
    y.backward(dy);
  }
  return {y.value().to_vector(), tokens.grad().to_vector(), positions.grad().to_vector()};
}

void check_bits(Device device, const std::vector<DType>& dtypes) {
  for (const Size& s : {Size{2, 3, 5, 4, 4, 1, 0.1},
                        {3, 5, 4, 5, 7, 0, 0.5},
                        {40, 9, 3, 12, 68, 2, 0.1},  // runs of more rows than a block has places
                        {2, 70, 50, 70, 260, 0, 0},
                        {4, 1, 9, 6, 32, 5, 0.1},
                        {46, 90, 700, 90, 4, 0, 0.2}})  // more than forward puts in order
    for (const DType dtype : dtypes) {
      CAPTURE(s.B, s.L, s.V, s.P, s.D, s.begin, s.rate, name_of(dtype));
      CHECK(run(s, dtype, device, true) == run(s, dtype, device, false));
    }
}

// One table for both: its gradient is the sum of the two.
void check_one_table(Device device) {
  Draw draw(32, DType::f32);
  const Tensor values = draw.normal({6, 8}).to(device), ids = draw.ids({3, 4}, 6).to(device);
  const Tensor dy = draw.normal({3, 4, 8}).to(device);
  std::vector<std::vector<double>> grads;
  for (const bool fused : {true, false}) {
    const Variable table = parameter(values);
    (fused ? token_position_embedding(table, table, ids, 2) : embedding(table, ids) + slice(table, 0, 2, 6))
        .backward(dy);
    grads.push_back(table.grad().to_vector());
  }
  REQUIRE(grads[0].size() == grads[1].size());
  for (std::size_t i = 0; i < grads[0].size(); ++i) CHECK(std::abs(grads[0][i] - grads[1][i]) < 1e-5);
}

}  // namespace

TEST_CASE("token_position_embedding has the bits of its parts", "[ops]") {
  check_bits(Device::cpu, {DType::f32, DType::f64});
  check_one_table(Device::cpu);
}

TEST_CASE("token_position_embedding wants each gradient by itself", "[ops]") {
  Draw draw(33, DType::f64);
  const Tensor tokens = draw.normal({5, 4}), positions = draw.normal({3, 4}), ids = draw.ids({2, 3}, 5);
  const Tensor dy = draw.normal({2, 3, 4});
  const auto grads = [&](bool of_tokens, bool of_positions) {
    const Variable a(tokens, of_tokens), b(positions, of_positions);
    token_position_embedding(a, b, ids).backward(dy);
    return std::pair(of_tokens ? a.grad().to_vector() : std::vector<double>(),
                     of_positions ? b.grad().to_vector() : std::vector<double>());
  };
  const auto both = grads(true, true);
  CHECK(grads(true, false).first == both.first);
  CHECK(grads(false, true).second == both.second);
}

#if defined(WEDGE_WITH_CUDA)
TEST_CASE("gpu: token_position_embedding has the bits of its parts", "[gpu][ops]") {
  if (test::skip_without_gpu()) return;
  check_bits(Device::cuda, {DType::f32});
  check_one_table(Device::cuda);
}
#endif
