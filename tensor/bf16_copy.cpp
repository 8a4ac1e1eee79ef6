#include "tensor/bf16_copy.h"

#include "tensor/cuda/gpu.h"
#include "tensor/cuda/graph.h"

namespace wedge {

const BFloat16* Bf16Copy::weight(std::int64_t rows_multiple) const {
  return made_in(true, rows_multiple);
}

std::int64_t Bf16Copy::rows() const {
  const std::int64_t first = tensor_.size(0);
  if (kept().values == nullptr || tensor_.numel() == 0) return first;
  return static_cast<std::int64_t>(kept().values->bytes() / sizeof(BFloat16)) / (tensor_.numel() / first);
}

const BFloat16* Bf16Copy::activation() const {
  return made_in(false, 1);
}

Tensor Bf16Copy::values() const {
  if (activation() == nullptr) return {};
  Tensor values = tensor_;
  values.storage_ = kept().values;
  values.dtype_ = DType::bf16;
  return values;
}

BFloat16* Bf16Copy::for_writing() const {
  if (!make_room(1)) return nullptr;
  if constexpr (kWithCuda) {
    kept().version = tensor_.version();
    kept().capture = cu::capture_id();
    kept().values->bump_version();
  }
  return target();
}

BFloat16* Bf16Copy::target() const {
  return kept().values == nullptr ? nullptr : reinterpret_cast<BFloat16*>(kept().values->data());
}

void Bf16Copy::is_current() const {
  kept().version = tensor_.version();
  kept().capture = 0;
}

bool Bf16Copy::make_room(std::int64_t rows_multiple) const {
  const auto numel = static_cast<std::size_t>(tensor_.numel());
  const bool whole = tensor_.is_contiguous() && numel * sizeof(float) == tensor_.storage().bytes();
  if (tensor_.device() != Device::cuda || tensor_.dtype() != DType::f32 || !whole) return false;
  if (kept().values != nullptr) return true;
  const std::size_t bytes = numel * sizeof(BFloat16);
  std::size_t padding = 0;
  if constexpr (kWithCuda)  // in a capture zeros would come only with the replay
    if (tensor_.rank() > 0 && tensor_.size(0) % rows_multiple != 0 && !cu::is_capturing())
      padding = bytes / static_cast<std::size_t>(tensor_.size(0)) *
                static_cast<std::size_t>(rows_multiple - tensor_.size(0) % rows_multiple);
  kept().values = std::make_shared<Storage>(bytes + padding, tensor_.device());
  if constexpr (kWithCuda)
    if (padding > 0) cu::fill_bytes(kept().values->data() + bytes, 0, padding);
  kept().version = tensor_.version() - 1;
  return true;
}

const BFloat16* Bf16Copy::made_in(bool any_place, std::int64_t rows_multiple) const {
  if (!make_room(rows_multiple)) return nullptr;
  if constexpr (kWithCuda) {
    const std::uint64_t capture = cu::capture_id();
    const bool counts = kept().capture == capture || (any_place && kept().capture == 0);
    if (kept().version != tensor_.version() || !counts) {
      const cu::StridedCopy args{1, {tensor_.numel()}, {1}, {1}, target(), tensor_.raw()};
      cu::copy_strided(args, DType::bf16, DType::f32);
      if (kept().version != tensor_.version()) kept().values->bump_version();
      kept().version = tensor_.version();
      kept().capture = capture;
    }
  }
  return target();
}

}  // namespace wedge
