#include "tensor/tensor.h"

#include <algorithm>
#include <cstring>

#include "tensor/cuda/gpu.h"
#include "tensor/rng.h"

namespace wedge {
namespace {

// Calls f(offset in elements) for every element in row-major order.
template <class F>
void for_each_offset(const Shape& shape, const Strides& strides, F&& f) {
  const std::int64_t n = numel(shape);
  if (n == 0) return;
  const std::size_t rank = shape.size();
  std::vector<std::int64_t> index(rank, 0);
  std::int64_t offset = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    f(offset);
    for (std::size_t d = rank; d-- > 0;) {
      offset += strides[d];
      if (++index[d] < shape[d]) break;
      offset -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
}

// The arguments of a copy on the GPU.
cu::StridedCopy strided_copy(const Tensor& to, const Tensor& from) {
  Shape sizes = to.shape();
  Strides to_strides = to.strides(), from_strides = from.strides();
  const int rank = merge_dimensions(to.rank(), sizes.data(), to_strides.data(), from_strides.data());
  WEDGE_CHECK(rank <= cu::StridedCopy::kMaxRank, "tensor: at most {} dimensions on a GPU, got {}",
              cu::StridedCopy::kMaxRank, to_string(to.shape()));
  cu::StridedCopy args{rank, {}, {}, {}, to.raw(), from.raw()};
  std::copy_n(sizes.begin(), rank, args.sizes);
  std::copy_n(to_strides.begin(), rank, args.to_strides);
  std::copy_n(from_strides.begin(), rank, args.from_strides);
  return args;
}

}  // namespace

Tensor Tensor::empty(Shape shape, DType dtype, Device device) {
  Tensor t;
  t.numel_ = wedge::numel(shape);
  std::int64_t bytes = 0;
  WEDGE_CHECK(!__builtin_mul_overflow(t.numel_, static_cast<std::int64_t>(size_of(dtype)), &bytes),
              "tensor: {} of {} is too large", to_string(shape), name_of(dtype));
  t.storage_ = std::make_shared<Storage>(static_cast<std::size_t>(bytes), device);
  t.strides_ = contiguous_strides(shape);
  t.shape_ = std::move(shape);
  t.dtype_ = dtype;
  return t;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  Tensor t = empty(std::move(shape), dtype, device);
  t.fill(0);
  return t;
}

Tensor Tensor::full(Shape shape, double value, DType dtype, Device device) {
  Tensor t = empty(std::move(shape), dtype, device);
  t.fill(value);
  return t;
}

template <class T>
Tensor Tensor::from(std::span<const T> values, Shape shape) {
  Tensor t = empty(std::move(shape), dtype_of<T>);
  WEDGE_CHECK(static_cast<std::int64_t>(values.size()) == t.numel(),
              "tensor: shape {} needs {} values, got {}", to_string(t.shape()), t.numel(), values.size());
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}
template Tensor Tensor::from(std::span<const float>, Shape);
template Tensor Tensor::from(std::span<const double>, Shape);
template Tensor Tensor::from(std::span<const BFloat16>, Shape);
template Tensor Tensor::from(std::span<const std::int32_t>, Shape);
template Tensor Tensor::from(std::span<const std::int64_t>, Shape);

Tensor Tensor::uniform(Shape shape, Rng& rng, double low, double high, DType dtype) {
  Tensor t = empty(std::move(shape), dtype);
  visit_dtype(dtype, [&]<class T>(T) {
    std::generate_n(t.data<T>(), t.numel(), [&] { return convert<T>(low + (high - low) * rng.uniform()); });
  });
  return t;
}

Tensor Tensor::normal(Shape shape, Rng& rng, double mean, double deviation, DType dtype) {
  Tensor t = empty(std::move(shape), dtype);
  visit_dtype(dtype, [&]<class T>(T) {
    std::generate_n(t.data<T>(), t.numel(), [&] { return convert<T>(mean + deviation * rng.normal()); });
  });
  return t;
}

bool Tensor::is_contiguous() const {
  if (numel_ == 0) return true;
  std::int64_t step = 1;
  for (std::size_t i = shape_.size(); i-- > 0;) {
    if (shape_[i] != 1 && strides_[i] != step) return false;
    step *= shape_[i];
  }
  return true;
}

double Tensor::item() const {
  WEDGE_CHECK(numel_ == 1, "item: expected one element, got shape {}", to_string(shape_));
  return to_vector()[0];
}

std::vector<double> Tensor::to_vector() const {
  if (device() != Device::cpu) return to(Device::cpu).to_vector();
  std::vector<double> out;
  out.reserve(static_cast<std::size_t>(numel_));
  visit_dtype(dtype_, [&]<class T>(T) {
    const T* p = data<T>();
    for_each_offset(shape_, strides_, [&](std::int64_t i) { out.push_back(convert<double>(p[i])); });
  });
  return out;
}

Tensor Tensor::view(Shape shape, Strides strides, std::int64_t offset) const {
  Tensor t = *this;
  t.shape_ = std::move(shape);
  t.strides_ = std::move(strides);
  t.offset_ = offset;
  t.numel_ = wedge::numel(t.shape_);
  return t;
}

Tensor Tensor::reshape(Shape shape) const {
  const auto wildcard = std::find(shape.begin(), shape.end(), -1);
  const auto negative = std::ranges::count_if(shape, [](std::int64_t n) { return n < 0; });
  WEDGE_CHECK(negative == (wildcard == shape.end() ? 0 : 1),
              "reshape: expected sizes, of which one may be -1, got {}", to_string(shape));
  if (wildcard != shape.end()) {
    *wildcard = 1;
    const std::int64_t rest = wedge::numel(shape);
    WEDGE_CHECK(rest > 0 && numel_ % rest == 0, "reshape: {} elements do not divide by {}", numel_, rest);
    *wildcard = numel_ / rest;
  }
  WEDGE_CHECK(wedge::numel(shape) == numel_, "reshape: cannot make {} of {}", to_string(shape),
              to_string(shape_));
  const Tensor dense = contiguous();
  Strides strides = contiguous_strides(shape);
  return dense.view(std::move(shape), std::move(strides), dense.offset_);
}

Tensor Tensor::transpose(int dim0, int dim1) const {
  const int a = normalize_dim(dim0, rank(), "transpose"), b = normalize_dim(dim1, rank(), "transpose");
  Tensor t = *this;
  std::swap(t.shape_[a], t.shape_[b]);
  std::swap(t.strides_[a], t.strides_[b]);
  return t;
}

Tensor Tensor::permute(const std::vector<int>& order) const {
  std::vector<int> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  bool is_permutation = static_cast<int>(order.size()) == rank();
  for (std::size_t i = 0; i < sorted.size(); ++i) is_permutation &= sorted[i] == static_cast<int>(i);
  WEDGE_CHECK(is_permutation, "permute: expected each of 0..{} once, got [{}]", rank() - 1,
              fmt::join(order, ", "));
  Tensor t = *this;
  for (std::size_t i = 0; i < order.size(); ++i) {
    t.shape_[i] = shape_[order[i]];
    t.strides_[i] = strides_[order[i]];
  }
  return t;
}

Tensor Tensor::slice(int dim, std::int64_t begin, std::int64_t end) const {
  const int d = normalize_dim(dim, rank(), "slice");
  WEDGE_CHECK(0 <= begin && begin <= end && end <= shape_[d],
              "slice: expected 0 <= begin <= end <= {}, got [{}, {})", shape_[d], begin, end);
  Shape shape = shape_;
  shape[d] = end - begin;
  return view(std::move(shape), strides_, offset_ + begin * strides_[d]);
}

Tensor Tensor::broadcast_to(const Shape& shape) const {
  const bool are_sizes = std::ranges::all_of(shape, [](std::int64_t n) { return n >= 0; });
  WEDGE_CHECK(are_sizes && broadcasts_to(shape_, shape), "broadcast_to: {} does not broadcast to {}",
              to_string(shape_), to_string(shape));
  Strides strides(shape.size(), 0);
  const std::size_t skip = shape.size() - shape_.size();
  for (std::size_t i = 0; i < shape_.size(); ++i)
    strides[skip + i] = shape_[i] == shape[skip + i] ? strides_[i] : 0;
  return view(shape, std::move(strides), offset_);
}

Tensor Tensor::contiguous() const {
  return is_contiguous() ? *this : clone();
}

Tensor Tensor::clone() const {
  return to(dtype_);
}

Tensor Tensor::to(DType dtype) const {
  Tensor out = empty(shape_, dtype, device());
  out.copy_from(*this);
  return out;
}

Tensor Tensor::to(Device device) const {
  if (device == this->device()) return *this;
  Tensor out = empty(shape_, dtype_, device);
  out.copy_from(*this);
  return out;
}

std::size_t Tensor::storage_bytes() const {
  const Storage::Rounded& rounded = storage_->rounded();
  return storage_->bytes() + (rounded.values != nullptr ? rounded.values->bytes() : 0);
}

void Tensor::fill(double value) const {
  bump_version();
  if constexpr (kWithCuda) {
    if (device() == Device::cuda) {
      if (value == 0 && !std::signbit(value) && is_contiguous())
        return cu::fill_bytes(raw(), 0, static_cast<std::size_t>(numel_) * size_of(dtype_));
      return cu::fill_strided(strided_copy(*this, *this), dtype_, value);
    }
  }
  visit_dtype(dtype_, [&]<class T>(T) {
    T* p = data<T>();
    const T v = convert<T>(value);
    if (is_contiguous()) {
      std::fill_n(p, numel_, v);
    } else {
      for_each_offset(shape_, strides_, [&](std::int64_t i) { p[i] = v; });
    }
  });
}

void Tensor::copy_from(const Tensor& source) const {
  WEDGE_CHECK(defined() && source.defined(), "copy_from: expected two tensors, got an undefined one");
  WEDGE_CHECK(shape_ == source.shape_, "copy_from: expected shape {}, got {}", to_string(shape_),
              to_string(source.shape_));
  for (std::size_t i = 0; i < shape_.size(); ++i)
    WEDGE_CHECK(strides_[i] != 0 || shape_[i] <= 1 || numel_ == 0,
                "copy_from: expected elements of their own, got a view that was broadcast to {}",
                to_string(shape_));
  bump_version();
  const bool dense_bytes = dtype_ == source.dtype_ && is_contiguous() && source.is_contiguous();
  if constexpr (kWithCuda) {
    if (device() != source.device()) {
      // What crosses is dense and of the destination's dtype; the rest is done on either side.
      if (!dense_bytes) return copy_from(source.to(dtype_).to(device()));
      return cu::copy_bytes(raw(), device(), source.raw(), source.device(),
                            static_cast<std::size_t>(numel_) * size_of(dtype_));
    }
  }
  // They may overlap; only memmove minds that.
  const bool apart = !shares_storage_with(source);
  if (!apart && (!dense_bytes || device() == Device::cuda)) return copy_from(source.clone());
  if constexpr (kWithCuda) {
    if (device() == Device::cuda) return cu::copy_strided(strided_copy(*this, source), dtype_, source.dtype_);
  }
  if (dense_bytes) {
    std::memmove(raw(), source.raw(), static_cast<std::size_t>(numel_) * size_of(dtype_));
    return;
  }
  visit_dtype(dtype_, [&]<class To>(To) {
    visit_dtype(source.dtype_, [&]<class From>(From) {
      const From* from = source.data<From>();
      To* to = data<To>();
      if (is_contiguous()) {
        for_each_offset(shape_, source.strides_, [&](std::int64_t i) { *to++ = convert<To>(from[i]); });
        return;
      }
      std::vector<std::int64_t> offsets;
      offsets.reserve(static_cast<std::size_t>(numel_));
      for_each_offset(shape_, strides_, [&](std::int64_t i) { offsets.push_back(i); });
      auto offset = offsets.begin();
      for_each_offset(shape_, source.strides_, [&](std::int64_t i) { to[*offset++] = convert<To>(from[i]); });
    });
  });
}

}  // namespace wedge
