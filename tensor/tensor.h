// A strided, reference-counted n-dimensional array. Views share storage; copies of a Tensor are views of all
// of it.
#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <vector>

#include "tensor/check.h"
#include "tensor/device.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"
#include "tensor/storage.h"

namespace wedge {

class Rng;

class Tensor {
 public:
  // The undefined tensor: defined() is false, and whatever needs elements throws wedge::Error.
  Tensor() = default;

  // Not initialised.
  static Tensor empty(Shape shape, DType dtype = DType::f32, Device device = Device::cpu);
  static Tensor zeros(Shape shape, DType dtype = DType::f32, Device device = Device::cpu);
  static Tensor full(Shape shape, double value, DType dtype = DType::f32, Device device = Device::cpu);
  // On the CPU, as are uniform and normal: a copy of `values`. Throws wedge::Error unless there are
  // numel(shape) of them.
  template <class T>
  static Tensor from(std::span<const T> values, Shape shape);
  template <class T>
  static Tensor from(const std::vector<T>& values, Shape shape) {
    return from(std::span<const T>(values), std::move(shape));
  }
  template <class T>
  static Tensor from(std::initializer_list<T> values, Shape shape) {
    return from(std::span<const T>(values.begin(), values.size()), std::move(shape));
  }
  // Uniform in [low, high) (before rounding to the dtype) and N(mean, deviation), in order of elements, drawn
  // in double: the same values, rounded, whatever the dtype.
  static Tensor uniform(Shape shape, Rng& rng, double low, double high, DType dtype = DType::f32);
  static Tensor normal(Shape shape, Rng& rng, double mean, double deviation, DType dtype = DType::f32);

  bool defined() const { return storage_ != nullptr; }
  DType dtype() const { return dtype_; }
  Device device() const { return storage().device(); }
  const Shape& shape() const { return shape_; }
  const Strides& strides() const { return strides_; }
  int rank() const { return static_cast<int>(shape_.size()); }
  // Size of a dimension; negative counts from the last.
  std::int64_t size(int dim) const { return shape_[normalize_dim(dim, rank(), "size")]; }
  std::int64_t numel() const { return numel_; }
  bool is_contiguous() const;

  // First element. The type must be the dtype; throws wedge::Error otherwise.
  template <class T>
  T* data() const {
    WEDGE_CHECK(dtype_ == dtype_of<T>, "tensor: data asked for as {}, is {}", name_of(dtype_of<T>),
                name_of(dtype_));
    return static_cast<T*>(raw());
  }
  void* raw() const { return storage().data() + offset_ * static_cast<std::int64_t>(size_of(dtype_)); }

  // The one element of a tensor of one element, as a double. This and the next wait for the GPU.
  double item() const;
  // All elements in row-major order, converted to double: for tests and printing.
  std::vector<double> to_vector() const;

  // Views. All throw wedge::Error when the arguments do not fit.
  Tensor reshape(Shape shape) const;  // one size may be -1; a copy unless the tensor is dense
  Tensor transpose(int dim0, int dim1) const;
  Tensor permute(const std::vector<int>& order) const;
  Tensor slice(int dim, std::int64_t begin, std::int64_t end) const;
  Tensor broadcast_to(const Shape& shape) const;

  // Itself when dense row-major, else a dense copy.
  Tensor contiguous() const;
  Tensor clone() const;
  // A dense copy of another dtype.
  Tensor to(DType dtype) const;
  // Itself when it is there already, else a dense copy on that device.
  Tensor to(Device device) const;

  // In place, so const like data(): a tensor is a handle. Each counts as a new version of the storage.
  void fill(double value) const;
  // Same shape; converts the dtype, crosses devices. Throws wedge::Error for a view that was broadcast, of
  // whose elements several are one.
  void copy_from(const Tensor& source) const;
  // Call after writing through data() into a tensor that autograd may have saved.
  void bump_version() const { storage().bump_version(); }
  std::uint32_t version() const { return storage().version(); }
  // Remembers the storage's version without keeping the storage alive. changed() is false where that is gone,
  // or where the tensor was undefined.
  class Watch {
   public:
    Watch() = default;
    explicit Watch(const Tensor& tensor)
        : storage_(tensor.storage_), version_(tensor.defined() ? tensor.version() : 0) {}
    bool changed() const {
      const std::shared_ptr<Storage> storage = storage_.lock();
      return storage != nullptr && storage->version() != version_;
    }

   private:
    std::weak_ptr<Storage> storage_;
    std::uint32_t version_ = 0;
  };

  // Of the whole storage, with its bfloat16 copy (tensor/bf16_copy.h).
  std::size_t storage_bytes() const;
  // How many elements the storage has from the first of this tensor on.
  std::int64_t capacity() const {
    return static_cast<std::int64_t>(storage_->bytes() / size_of(dtype_)) - offset_;
  }
  // Whether no other tensor shares the storage.
  bool is_unique() const { return storage_.use_count() == 1; }
  bool shares_storage_with(const Tensor& other) const { return storage_ == other.storage_; }

 private:
  friend class Bf16Copy;
  Tensor view(Shape shape, Strides strides, std::int64_t offset) const;
  Storage& storage() const {
    WEDGE_CHECK(storage_ != nullptr, "tensor: expected a tensor, got an undefined one");
    return *storage_;
  }

  std::shared_ptr<Storage> storage_;
  Shape shape_;
  Strides strides_;
  std::int64_t offset_ = 0;
  std::int64_t numel_ = 0;
  DType dtype_ = DType::f32;
};

// visit_dtype for the types that kernels compute in: float and double. Throws wedge::Error naming `op` for
// others.
template <class F>
decltype(auto) visit_floating(DType dtype, const char* op, F&& f) {
  WEDGE_CHECK(dtype == DType::f32 || dtype == DType::f64, "{}: expected float32 or float64, got {}", op,
              name_of(dtype));
  return dtype == DType::f32 ? f(float{}) : f(double{});
}

}  // namespace wedge
