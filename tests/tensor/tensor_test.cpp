#include "tensor/tensor.h"

#include <bit>
#include <cmath>
#include <limits>

#include "tests/support/catch.h"

using namespace wedge;
using Catch::Matchers::ContainsSubstring;

namespace {

// 0, 1, 2, … in row-major order.
Tensor counting(Shape shape, DType dtype = DType::f32) {
  std::vector<double> values(static_cast<std::size_t>(numel(shape)));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
  return Tensor::from<double>(values, std::move(shape)).to(dtype);
}

using Values = std::vector<double>;

float round_to_bf16(float x) {
  return static_cast<float>(BFloat16(x));
}

}  // namespace

TEST_CASE("tensors are made of values, zeros or a constant", "[tensor]") {
  CHECK_FALSE(Tensor().defined());
  const Tensor t = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(t.defined());
  CHECK(t.rank() == 2);
  CHECK(t.numel() == 6);
  CHECK(t.size(-1) == 3);
  CHECK(t.dtype() == DType::f32);
  CHECK(t.is_contiguous());
  CHECK(t.to_vector() == Values{1, 2, 3, 4, 5, 6});
  CHECK_THROWS_WITH(Tensor::from<float>({1, 2}, {3}), ContainsSubstring("shape [3] needs 3 values, got 2"));
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64}) {
    CHECK(Tensor::zeros({3}, dtype).to_vector() == Values{0, 0, 0});
    CHECK(Tensor::full({2}, -7, dtype).to_vector() == Values{-7, -7});
    CHECK(Tensor::empty({0, 2}, dtype).to_vector().empty());
  }
  CHECK(Tensor::full({}, 2.5).item() == 2.5);
  CHECK_THROWS_WITH(t.item(), ContainsSubstring("item: expected one element, got shape [2, 3]"));
  CHECK_THROWS_WITH(t.data<double>(), ContainsSubstring("asked for as float64, is float32"));
  CHECK_THROWS_AS(Tensor::empty({std::int64_t{1} << 61, 2}), Error);
  CHECK_THROWS_AS(Tensor::empty({std::int64_t{1} << 62}, DType::f64), Error);
}

TEST_CASE("views show the same memory in another order", "[tensor]") {
  const Tensor t = counting({2, 3, 4});
  const Tensor p = t.permute({2, 0, 1});
  CHECK(p.shape() == Shape{4, 2, 3});
  CHECK(p.strides() == Strides{1, 12, 4});
  CHECK_FALSE(p.is_contiguous());
  CHECK(p.shares_storage_with(t));
  CHECK(p.slice(0, 1, 2).to_vector() == Values{1, 5, 9, 13, 17, 21});
  CHECK(t.transpose(0, -1).to_vector() == t.permute({2, 1, 0}).to_vector());
  CHECK(t.slice(1, 1, 3).to_vector() == Values{4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23});
  CHECK(t.slice(1, 1, 3).slice(0, 1, 2).slice(2, 3, 4).to_vector() == Values{19, 23});
  CHECK(t.slice(0, 1, 1).to_vector().empty());

  Tensor row = counting({2, 3}).slice(0, 1, 2);
  row.fill(9);
  CHECK(row.to_vector() == Values{9, 9, 9});
  Tensor whole = counting({2, 3});
  whole.transpose(0, 1).slice(0, 1, 2).copy_from(Tensor::from<double>({-1, -2}, {1, 2}));
  CHECK(whole.to_vector() == Values{0, -1, 2, 3, -2, 5});
}

TEST_CASE("views of the wrong size are errors that say so", "[tensor]") {
  const Tensor t = counting({2, 3});
  CHECK_THROWS_WITH(t.permute({0, 0}), ContainsSubstring("permute: expected each of 0..1 once, got [0, 0]"));
  CHECK_THROWS_AS(t.permute({0}), Error);
  CHECK_THROWS_AS(t.permute({0, 2}), Error);
  CHECK_THROWS_WITH(t.transpose(0, 2), ContainsSubstring("transpose: dimension"));
  CHECK_THROWS_WITH(t.slice(1, 2, 4),
                    ContainsSubstring("slice: expected 0 <= begin <= end <= 3, got [2, 4)"));
  CHECK_THROWS_AS(t.slice(1, 2, 1), Error);
  CHECK_THROWS_AS(t.slice(1, -1, 1), Error);
  CHECK_THROWS_AS(t.slice(2, 0, 1), Error);
  CHECK_THROWS_WITH(t.broadcast_to({2, 2}), ContainsSubstring("broadcast_to"));
  CHECK_THROWS_WITH(t.broadcast_to({3}), ContainsSubstring("[2, 3] does not broadcast to [3]"));
  CHECK_THROWS_AS(t.broadcast_to({1, 3}), Error);  // a size of 2 does not shrink
}

TEST_CASE("reshape keeps the order, and the memory where it can", "[tensor]") {
  const Tensor t = counting({2, 3, 4});
  CHECK(t.reshape({4, 6}).to_vector() == t.to_vector());
  CHECK(t.reshape({4, 6}).shares_storage_with(t));
  CHECK(t.reshape({-1, 8}).shape() == Shape{3, 8});
  CHECK(t.reshape({24, -1}).shape() == Shape{24, 1});
  const Tensor turned = t.transpose(0, 2).reshape({6, 4});
  CHECK(turned.to_vector() == t.transpose(0, 2).to_vector());
  CHECK_FALSE(turned.shares_storage_with(t));
  CHECK(t.slice(0, 1, 2).reshape({12}).to_vector() == t.slice(0, 1, 2).to_vector());
  CHECK(counting({1}).reshape({}).item() == 0);
  CHECK_THROWS_WITH(t.reshape({5, 5}), ContainsSubstring("reshape: cannot make [5, 5] of [2, 3, 4]"));
  CHECK_THROWS_WITH(t.reshape({-1, 5}), ContainsSubstring("24 elements do not divide by 5"));
  CHECK_THROWS_AS(t.reshape({-1, -1}), Error);
  CHECK_THROWS_AS(Tensor::empty({0, 3}).reshape({-1, 0}), Error);
}

TEST_CASE("broadcasting repeats without copying", "[tensor]") {
  const Tensor t = counting({2, 1});
  const Tensor wide = t.broadcast_to({3, 2, 2});
  CHECK(wide.strides() == Strides{0, 1, 0});
  CHECK(wide.shares_storage_with(t));
  CHECK(wide.to_vector() == Values{0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1});
  CHECK(wide.contiguous().strides() == Strides{4, 2, 1});
  CHECK(wide.contiguous().to_vector() == wide.to_vector());
}

TEST_CASE("what is undefined or shares its elements is refused", "[tensor]") {
  const Tensor none;
  CHECK_THROWS_WITH(none.device(), ContainsSubstring("got an undefined one"));
  CHECK_THROWS_AS(none.clone(), Error);
  CHECK_THROWS_AS(none.to_vector(), Error);
  CHECK_THROWS_AS(counting({1}).copy_from(none), Error);
  Tensor wide = counting({2, 1}).broadcast_to({2, 3});
  CHECK_THROWS_WITH(wide.copy_from(counting({2, 3})), ContainsSubstring("broadcast to [2, 3]"));
  Tensor one = counting({1, 2}).broadcast_to({1, 2});
  CHECK_NOTHROW(one.copy_from(counting({1, 2})));
}

TEST_CASE("contiguity looks at strides, not at how a view came about", "[tensor]") {
  const Tensor t = counting({2, 3, 4});
  CHECK(t.slice(0, 1, 2).is_contiguous());
  CHECK_FALSE(t.slice(1, 0, 2).is_contiguous());
  CHECK(t.slice(1, 0, 1).slice(0, 0, 1).is_contiguous());
  CHECK(counting({3, 1}).transpose(0, 1).is_contiguous());
  CHECK(Tensor::empty({2, 0, 3}).is_contiguous());
  CHECK(Tensor::empty({2, 0, 3}).transpose(0, 2).is_contiguous());
  CHECK(t.contiguous().shares_storage_with(t));
  CHECK_FALSE(t.clone().shares_storage_with(t));
}

TEST_CASE("versions count changes of the storage, through any view", "[tensor]") {
  Tensor t = counting({2, 3});
  Tensor view = t.transpose(0, 1);
  const std::uint32_t start = t.version();
  view.fill(1);
  CHECK(t.version() == start + 1);
  t.copy_from(counting({2, 3}));
  CHECK(view.version() == start + 2);
  t.bump_version();
  CHECK(view.version() == start + 3);
  CHECK(t.clone().version() <= 1);
  CHECK_FALSE(t.is_unique());
  view = Tensor();
  CHECK(t.is_unique());
}

TEST_CASE("values convert between dtypes", "[tensor]") {
  const Tensor t = Tensor::from<double>({0, -1.75, 3.5, 1e-3, 65504}, {5});
  CHECK(t.to(DType::f32).to(DType::f64).to_vector() == Values{0, -1.75, 3.5, 1e-3f, 65504});
  CHECK(t.to(DType::i32).to_vector() == Values{0, -1, 3, 0, 65504});
  CHECK(t.to(DType::i64).to_vector() == Values{0, -1, 3, 0, 65504});
  CHECK(Tensor::from<std::int64_t>({1ll << 40, -3}, {2}).to(DType::f64).to_vector() == Values{0x1p40, -3});
  CHECK(Tensor::from<std::int32_t>({7, -8}, {2}).to(DType::bf16).to_vector() == Values{7, -8});
  // through strides, in both directions
  CHECK(counting({2, 3}).transpose(0, 1).to(DType::f64).to_vector() == Values{0, 3, 1, 4, 2, 5});
  Tensor into = Tensor::zeros({2, 3}, DType::f64);
  into.transpose(0, 1).copy_from(counting({3, 2}, DType::i32));
  CHECK(into.to_vector() == Values{0, 2, 4, 1, 3, 5});
  CHECK_THROWS_WITH(into.copy_from(counting({3, 2})),
                    ContainsSubstring("copy_from: expected shape [2, 3], got [3, 2]"));
}

TEST_CASE("bfloat16 rounds to the nearest, ties to even", "[tensor]") {
  // Eight bits of precision: neighbours of 1 are 1 - 2⁻⁸ and 1 + 2⁻⁷.
  CHECK(round_to_bf16(1.0f) == 1.0f);
  CHECK(round_to_bf16(1.0f + 0x1p-8f) == 1.0f);                    // half way: 1 is even
  CHECK(round_to_bf16(1.0f + 0x1p-8f + 0x1p-20f) == 1 + 0x1p-7f);  // above half way
  CHECK(round_to_bf16(1.0f + 3 * 0x1p-8f) == 1 + 0x1p-6f);         // half way between odd and even
  CHECK(round_to_bf16(1.0f + 3 * 0x1p-8f - 0x1p-20f) == 1 + 0x1p-7f);
  CHECK(round_to_bf16(-1.0f - 3 * 0x1p-8f) == -1 - 0x1p-6f);
  CHECK(round_to_bf16(2.0f - 0x1p-23f) == 2.0f);  // the carry reaches the exponent
  CHECK(std::signbit(round_to_bf16(-0.0f)));
  CHECK(round_to_bf16(0x1p-133f) == 0x1p-133f);  // smallest subnormal
  CHECK(round_to_bf16(0x1p-149f) == 0.0f);
  CHECK(std::isinf(round_to_bf16(std::numeric_limits<float>::max())));
  CHECK(std::isinf(round_to_bf16(std::numeric_limits<float>::infinity())));
  CHECK(round_to_bf16(-std::numeric_limits<float>::infinity()) < 0);
}

TEST_CASE("bfloat16 keeps NaN a NaN", "[tensor]") {
  // Payloads that live in the lower half would round to infinity, all ones would wrap to zero.
  for (const std::uint32_t bits : {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    const float nan = std::bit_cast<float>(bits);
    CHECK(std::isnan(round_to_bf16(nan)));
    CHECK(std::signbit(round_to_bf16(nan)) == std::signbit(nan));
  }
  CHECK(std::isnan(Tensor::full({1}, std::nan(""), DType::bf16).item()));
}

TEST_CASE("dtypes know their size and name", "[tensor]") {
  CHECK(size_of(DType::f32) == 4);
  CHECK(size_of(DType::f64) == 8);
  CHECK(size_of(DType::bf16) == 2);
  CHECK(size_of(DType::i32) == 4);
  CHECK(size_of(DType::i64) == 8);
  CHECK(name_of(DType::bf16) == "bfloat16");
  CHECK(is_floating(DType::bf16));
  CHECK_FALSE(is_floating(DType::i32));
  CHECK_THROWS_WITH(visit_floating(DType::bf16, "some_op", [](auto) {}),
                    ContainsSubstring("some_op: expected float32 or float64, got bfloat16"));
}
