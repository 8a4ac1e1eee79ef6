#include "kernels/embedding.h"

#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/indices.h"

namespace wedge {

Variable embedding(const Variable& weight, const Tensor& ids) {
  WEDGE_CHECK(weight.value().rank() == 2, "embedding: weight must be [V, D], got {}",
              to_string(weight.shape()));
  const std::int64_t V = weight.size(0), D = weight.size(1);
  const Tensor table = weight.value().contiguous(), rows = checked_indices("embedding", ids, V);
  Shape shape = ids.shape();
  shape.push_back(D);
  const Tensor y = Tensor::empty(shape, weight.dtype(), table.device());
  visit_floating(y.dtype(), "embedding", [&]<class T>(T) {
    embedding_forward<T>(compute::exec_of(y),
                         {rows.numel(), V, D, rows.data<std::int32_t>(), table.data<T>(), y.data<T>()});
  });
  return make_output("embedding", y, {weight}, [V, D, rows = Saved(rows)](const BackwardContext& ctx) {
    const GradSink dweight = ctx.sink(0);
    const Tensor& at = rows.get("embedding");
    visit_floating(ctx.grad().dtype(), "embedding", [&]<class T>(T) {
      embedding_backward<T>(compute::exec_of(ctx.grad()),
                            {at.numel(), V, D, at.data<std::int32_t>(), ctx.grad().data<T>(),
                             dweight.tensor.data<T>(), dweight.add});
    });
  });
}

Variable gather(const Variable& x, const Tensor& ids) {
  Shape lead = x.shape();
  WEDGE_CHECK(!lead.empty(), "gather: expected [..., N], got a scalar");
  const std::int64_t n = lead.back();
  lead.pop_back();
  WEDGE_CHECK(ids.shape() == lead, "gather: ids must be {}, got {}", to_string(lead), to_string(ids.shape()));
  // Element ids[r] of row r is row r · n + ids[r] of x as a table of single elements.
  const Tensor columns = checked_indices("gather", ids, n);
  const Tensor flat = Tensor::empty(ids.shape(), DType::i32);
  WEDGE_CHECK(x.value().numel() < (std::int64_t{1} << 31), "gather: at most 2^31 elements, got {}",
              to_string(x.shape()));
  for (std::int64_t r = 0; r < flat.numel(); ++r)
    flat.data<std::int32_t>()[r] = static_cast<std::int32_t>(r * n) + columns.data<std::int32_t>()[r];
  return reshape(embedding(reshape(x, {-1, 1}), flat), lead);
}

}  // namespace wedge
