// Strided operands in as few dimensions as they need.
#pragma once

#include "kernels/elementwise.h"

namespace wedge {

// Neighbouring dimensions over which both operands step evenly become one, so that equal dense shapes are a
// single row. The rank is at least 1 afterwards.
template <class T>
Binary<T> collapse(const Binary<T>& args) {
  Binary<T> out = args;
  out.rank = 0;
  for (int d = 0; d < args.rank; ++d) {
    if (args.sizes[d] == 1) continue;
    const int last = out.rank - 1;
    if (last >= 0 && out.a_strides[last] == args.a_strides[d] * args.sizes[d] &&
        out.b_strides[last] == args.b_strides[d] * args.sizes[d]) {
      out.sizes[last] *= args.sizes[d];
      out.a_strides[last] = args.a_strides[d];
      out.b_strides[last] = args.b_strides[d];
    } else {
      out.sizes[out.rank] = args.sizes[d];
      out.a_strides[out.rank] = args.a_strides[d];
      out.b_strides[out.rank++] = args.b_strides[d];
    }
  }
  if (out.rank == 0) {
    out.rank = 1;
    out.sizes[0] = 1;
    out.a_strides[0] = out.b_strides[0] = 0;
  }
  return out;
}

}  // namespace wedge
