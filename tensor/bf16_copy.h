// A float32 tensor's values as bfloat16, for the products on a GPU that read it.
#pragma once

#include "tensor/tensor.h"

namespace wedge {

// The copy that a dense float32 tensor on a GPU keeps beside its storage; null or undefined of any other
// tensor, and of a view of a part of its storage. It is made anew when it is asked for and the storage has
// changed, unless whoever changed that wrote the copy too.
class Bf16Copy {
 public:
  // `tensor` must outlive this.
  explicit Bf16Copy(const Tensor& tensor) : tensor_(tensor) {}

  // Of a weight. Products like sizes that are multiples of 8: where this call allocates the copy, its first
  // size is rounded up to `rows_multiple` with rows of zeros.
  const BFloat16* weight(std::int64_t rows_multiple = 1) const;
  // How many rows there are, with those of zeros: at least the first size.
  std::int64_t rows() const;
  // Of an activation. A graph's replay finds other values in it than its capture did, and nobody else writes
  // the copy: in a capture, one that was made outside of it does not count.
  const BFloat16* activation() const;
  // The same as a tensor of its own, which outlives `tensor`; when the copy is made anew its version rises.
  Tensor values() const;

  // The same memory for a kernel that is about to write all of the tensor: it writes the copy as well, which
  // counts as that of the present version from here on.
  BFloat16* for_writing() const;
  // Null where no copy was asked for yet. Who has written it and the tensor says so afterwards.
  BFloat16* target() const;
  void is_current() const;

 private:
  const BFloat16* made_in(bool any_place, std::int64_t rows_multiple) const;
  bool make_room(std::int64_t rows_multiple) const;  // false where there can be no copy
  Storage::Rounded& kept() const { return tensor_.storage().rounded(); }

  const Tensor& tensor_;
};

}  // namespace wedge
