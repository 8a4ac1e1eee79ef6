// What the gate's operations demand of their inputs. Internal to autograd/ops/.
#pragma once

#include "autograd/compute.h"

namespace wedge {

// Throws wedge::Error naming `op` unless h and g are [..., D], weight [D, 2D] and bias, if there is one, [D],
// all of one dtype and on one device.
inline void check_gate(const char* op, const Variable& h, const Variable& g, const Variable& weight,
                       const Variable& bias) {
  compute::check_operands(op, {{"h", h}, {"g", g}, {"weight", weight}, {"bias", bias, true}});
  WEDGE_CHECK(h.value().rank() >= 1 && h.shape() == g.shape(),
              "{}: expected h and g of one shape [..., D], got {} and {}", op, to_string(h.shape()),
              to_string(g.shape()));
  const std::int64_t D = h.size(-1);
  WEDGE_CHECK(weight.shape() == (Shape{D, 2 * D}) && (!bias.defined() || bias.shape() == Shape{D}),
              "{}: weight must be [{}, {}] and bias [{}], got {} and {}", op, D, 2 * D, D,
              to_string(weight.shape()), bias.defined() ? to_string(bias.shape()) : "none");
}

}  // namespace wedge
