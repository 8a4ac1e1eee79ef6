#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/indices.h"

namespace wedge {

Variable cross_entropy(const Variable& logits, const Tensor& targets) {
  compute::check_operands("cross_entropy", {{"logits", logits}});
  Shape lead = logits.shape();
  WEDGE_CHECK(!lead.empty() && logits.value().numel() > 0,
              "cross_entropy: expected logits [..., V], not empty, got {}", to_string(logits.shape()));
  lead.pop_back();
  WEDGE_CHECK(targets.shape() == lead, "cross_entropy: targets must be {}, got {}", to_string(lead),
              to_string(targets.shape()));
  checked_indices("cross_entropy", targets, logits.size(-1), logits.value());
  return neg(mean(gather(log_softmax(logits), targets)));
}

}  // namespace wedge
