#include "kernels/embedding.h"

#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/indices.h"

namespace wedge {
namespace {

// y[t] = table[t · step + ids[t]] for a table of rows of D.
Variable pick_rows(const char* op, const Variable& table, const Tensor& ids, std::int64_t step, Shape shape) {
  const Tensor rows = table.value().contiguous();
  const std::int64_t V = rows.size(0), D = rows.size(1);
  const Tensor y = Tensor::empty(std::move(shape), rows.dtype(), rows.device());
  visit_floating(y.dtype(), op, [&]<class T>(T) {
    embedding_forward<T>(compute::exec_of(y),
                         {ids.numel(), V, D, step, ids.data<std::int32_t>(), rows.data<T>(), y.data<T>()});
  });
  return make_output(op, y, {table}, [op, V, D, step, ids = Saved(ids)](const BackwardContext& ctx) {
    const GradSink dweight = ctx.sink(0);
    const Tensor& at = ids.get(op);
    visit_floating(ctx.grad().dtype(), op, [&]<class T>(T) {
      embedding_backward<T>(compute::exec_of(ctx.grad()),
                            {at.numel(), V, D, step, at.data<std::int32_t>(), ctx.grad().data<T>(),
                             dweight.tensor.data<T>(), dweight.add});
    });
  });
}

}  // namespace

Variable embedding(const Variable& weight, const Tensor& ids) {
  WEDGE_CHECK(weight.value().rank() == 2, "embedding: weight must be [V, D], got {}",
              to_string(weight.shape()));
  Shape shape = ids.shape();
  shape.push_back(weight.size(1));
  return pick_rows("embedding", weight, checked_indices("embedding", ids, weight.size(0), weight.value()), 0,
                   std::move(shape));
}

Variable gather(const Variable& x, const Tensor& ids) {
  Shape lead = x.shape();
  WEDGE_CHECK(!lead.empty(), "gather: expected [..., N], got a scalar");
  const std::int64_t n = lead.back();
  lead.pop_back();
  WEDGE_CHECK(ids.shape() == lead, "gather: ids must be {}, got {}", to_string(lead), to_string(ids.shape()));
  // x as a table of single elements, n of which belong to each row.
  return pick_rows("gather", reshape(x, {x.value().numel(), 1}), checked_indices("gather", ids, n, x.value()),
                   n, lead);
}

}  // namespace wedge
