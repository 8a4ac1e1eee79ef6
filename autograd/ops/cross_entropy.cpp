#include "autograd/ops.h"

namespace wedge {

Variable cross_entropy(const Variable& logits, const Tensor& targets) {
  return neg(mean(gather(log_softmax(logits), targets)));
}

}  // namespace wedge
