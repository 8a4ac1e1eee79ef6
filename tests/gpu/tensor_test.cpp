// Tensors on the GPU: copies between devices, views, conversions, and what is refused.
#include <cmath>

#include "autograd/ops.h"
#include "tensor/tensor.h"
#include "tests/support/catch.h"
#include "tests/support/gpu.h"

using namespace wedge;
using Catch::Matchers::ContainsSubstring;

namespace {

Tensor counting(Shape shape, DType dtype = DType::f32) {
  std::vector<float> values(static_cast<std::size_t>(numel(shape)));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  return Tensor::from(values, std::move(shape)).to(dtype);
}

}  // namespace

TEST_CASE("gpu: tensors go there and come back", "[gpu][tensor]") {
  if (test::skip_without_gpu()) return;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64}) {
    const Tensor host = counting({3, 5}, dtype), device = host.to(Device::cuda);
    CHECK(device.device() == Device::cuda);
    CHECK(device.dtype() == dtype);
    CHECK(device.to_vector() == host.to_vector());
    CHECK(device.to(Device::cuda).shares_storage_with(device));
    CHECK(device.to(Device::cpu).to_vector() == host.to_vector());
    for (const DType other : {DType::f32, DType::bf16, DType::i64})
      CHECK(device.to(other).to_vector() == host.to(other).to_vector());
  }
  // More than all pinned buffers hold.
  const Tensor large = counting({3 << 20}), there = large.to(Device::cuda);
  CHECK(there.to(Device::cpu).to_vector() == large.to_vector());
  CHECK(counting({0, 3}).to(Device::cuda).to_vector().empty());
}

// Eight elements at a time where both ends allow it, and the rest.
TEST_CASE("gpu: dense copies of every length, place and dtype", "[gpu][tensor]") {
  if (test::skip_without_gpu()) return;
  for (const DType from : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64})
    for (const DType to : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64})
      for (const auto& [first, length] : {std::pair{0, 7}, {0, 8}, {0, 4100}, {3, 50}, {8, 33}}) {
        CAPTURE(name_of(from), name_of(to), first, length);
        const Tensor host = counting({first + length}, from).slice(0, first, first + length);
        Tensor device = Tensor::full({first + length + 8}, 77, to).to(Device::cuda);
        device.slice(0, first, first + length)
            .copy_from(counting({first + length}, from).to(Device::cuda).slice(0, first, first + length));
        CHECK(device.slice(0, first, first + length).to_vector() == host.to(to).to_vector());
        CHECK(device.slice(0, first + length, first + length + 8).to_vector() == std::vector<double>(8, 77));
        CHECK(device.slice(0, 0, first).to_vector() ==
              std::vector<double>(static_cast<std::size_t>(first), 77));
      }
}

TEST_CASE("gpu: views are read and written through their strides", "[gpu][tensor]") {
  if (test::skip_without_gpu()) return;
  const Tensor host = counting({2, 3, 4}), device = host.to(Device::cuda);
  CHECK(device.transpose(0, 2).to_vector() == host.transpose(0, 2).to_vector());
  CHECK(device.slice(1, 1, 3).permute({2, 0, 1}).contiguous().to_vector() ==
        host.slice(1, 1, 3).permute({2, 0, 1}).to_vector());
  CHECK(device.slice(2, 0, 1).broadcast_to({2, 3, 4}).to_vector() ==
        host.slice(2, 0, 1).broadcast_to({2, 3, 4}).to_vector());
  for (const Device from : {Device::cpu, Device::cuda}) {
    Tensor a = host.clone(), b = device.clone();
    const Tensor source = counting({4, 3}, DType::i32);
    a.slice(0, 1, 2).reshape({3, 4}).transpose(0, 1).copy_from(source);
    b.slice(0, 1, 2).reshape({3, 4}).transpose(0, 1).copy_from(source.to(from));
    CHECK(a.to_vector() == b.to_vector());
    a.slice(2, 1, 3).fill(-2);
    b.slice(2, 1, 3).fill(-2);
    CHECK(a.to_vector() == b.to_vector());
  }
  // Source and destination overlap, over more than one block of threads.
  for (const auto& [from, to] : {std::pair{0, 1}, std::pair{1, 0}}) {
    Tensor a = counting({3000}), b = a.to(Device::cuda);
    a.slice(0, to, to + 2999).copy_from(a.slice(0, from, from + 2999).clone());
    b.slice(0, to, to + 2999).copy_from(b.slice(0, from, from + 2999));
    CHECK(a.to_vector() == b.to_vector());
  }
}

TEST_CASE("gpu: tensors are filled", "[gpu][tensor]") {
  if (test::skip_without_gpu()) return;
  CHECK(Tensor::zeros({2, 2}, DType::f32, Device::cuda).to_vector() == std::vector<double>{0, 0, 0, 0});
  CHECK(Tensor::full({2}, 1.5, DType::bf16, Device::cuda).to_vector() == std::vector<double>{1.5, 1.5});
  CHECK(std::signbit(Tensor::full({1}, -0.0, DType::f32, Device::cuda).item()));
}

TEST_CASE("gpu: operations want all tensors on one device, in a type that it computes in", "[gpu][tensor]") {
  if (test::skip_without_gpu()) return;
  const Variable host = counting({2, 2}), device = counting({2, 2}).to(Device::cuda);
  CHECK_THROWS_WITH(add(host, device), ContainsSubstring("add: b must be on cpu as a is, got cuda"));
  CHECK_THROWS_WITH(matmul(device, host), ContainsSubstring("b must be on cuda as a is, got cpu"));
  CHECK_THROWS_WITH(linear(device, host), ContainsSubstring("weight must be on cuda as x is, got cpu"));
  CHECK_THROWS_WITH(concat({host, device}, 0), ContainsSubstring("a part must be on cpu"));
  CHECK_THROWS_WITH(embedding(device, Tensor::from(std::vector<std::int32_t>{0}, {1})),
                    ContainsSubstring("indices must be on cuda"));
  const Variable wide = counting({2, 2}, DType::f64).to(Device::cuda);
  CHECK_THROWS_WITH(exp(wide), ContainsSubstring("not for float64 on cuda"));
}
