// Strided operands in as few dimensions as they need.
#pragma once

#include "kernels/elementwise.h"
#include "tensor/shape.h"

namespace wedge {

// Merges dimensions of both operands, so that equal dense shapes are a single row. The rank is at least 1
// afterwards.
template <class T>
Binary<T> collapse(Binary<T> args) {
  args.rank = merge_dimensions(args.rank, args.sizes, args.a_strides, args.b_strides);
  if (args.rank == 0) {
    args.rank = 1;
    args.sizes[0] = 1;
    args.a_strides[0] = args.b_strides[0] = 0;
  }
  return args;
}

}  // namespace wedge
