#include "kernels/embedding.h"

#include "autograd/compute.h"
#include "autograd/ops.h"
#include "autograd/ops/dropout_mask.h"
#include "autograd/ops/indices.h"

namespace wedge {
namespace {

void check_table(const char* op, const char* name, char rows, const Variable& table) {
  WEDGE_CHECK(table.value().rank() == 2, "{}: {} must be [{}, D], got {}", op, name, rows,
              to_string(table.shape()));
}

void check_count(const char* op, const Tensor& ids) {
  WEDGE_CHECK(ids.device() == Device::cpu || ids.numel() <= kMostIds, "{}: at most {} indices, got {}", op,
              kMostIds, ids.numel());
}

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
      embedding_backward<T>(compute::exec_of(ctx.grad()), {at.numel(), V, D, step, at.data<std::int32_t>(),
                                                           ctx.grad().data<T>(), dweight.of<T>()});
    });
  });
}

}  // namespace

Variable embedding(const Variable& weight, const Tensor& ids) {
  compute::check_operands("embedding", {{"weight", weight}});
  check_table("embedding", "weight", 'V', weight);
  const Tensor at = checked_indices("embedding", ids, weight.size(0), weight.value());
  check_count("embedding", at);
  Shape shape = at.shape();
  shape.push_back(weight.size(1));
  return pick_rows("embedding", weight, at, 0, std::move(shape));
}

Variable token_position_embedding(const Variable& token_weight, const Variable& position_weight,
                                  const Tensor& ids, std::int64_t begin, const Dropout& drop) {
  constexpr auto op = "token_position_embedding";
  compute::check_operands(op, {{"token_weight", token_weight}, {"position_weight", position_weight}});
  check_dropout(op, drop, token_weight);
  check_table(op, "token_weight", 'V', token_weight);
  check_table(op, "position_weight", 'P', position_weight);
  const std::int64_t V = token_weight.size(0), P = position_weight.size(0), D = token_weight.size(1);
  WEDGE_CHECK(position_weight.size(1) == D, "{}: position_weight must be [P, {}], got {}", op, D,
              to_string(position_weight.shape()));
  const Tensor at = checked_indices(op, ids, V, token_weight.value());
  check_count(op, at);
  WEDGE_CHECK(ids.rank() == 2, "{}: ids must be [B, L], got {}", op, to_string(ids.shape()));
  const std::int64_t B = ids.size(0), L = ids.size(1);
  WEDGE_CHECK(begin >= 0 && L <= P && begin <= P - L, "{}: positions must be in [0, {}), got {} from {} on",
              op, P, L, begin);
  const Tensor tokens = token_weight.value().contiguous(), positions = position_weight.value().contiguous();

  const Tensor y = Tensor::empty({B, L, D}, tokens.dtype(), tokens.device());
  Tensor order;
  if (y.device() == Device::cuda && at.numel() <= kOrderedInForward && needs_graph({token_weight}))
    order = Tensor::empty({at.numel(), 2}, DType::i32, y.device());
  visit_floating(y.dtype(), op, [&]<class T>(T) {
    const Exec exec = compute::exec_of(y);
    token_position_forward<T>(
        exec, {B, L, V, D, at.data<std::int32_t>(), tokens.data<T>(), positions.data<T>() + begin * D,
               mask_of(drop), y.data<T>(), compute::round_into(exec, y),
               compute::data_or_null<std::int32_t>(order)});
  });
  return make_output(op, y, {token_weight, position_weight},
                     [B, L, V, D, begin, drop, counter = Saved(drop.counter), ids = Saved(at),
                      order](const BackwardContext& ctx) {
                       if (drop.active()) counter.get(op);
                       const GradSink dtokens = ctx.sink(0), dpositions = ctx.sink(1);
                       // Rows of positions that are not in use.
                       if (dpositions && !dpositions.add) {
                         const std::int64_t P = dpositions.tensor.size(0);
                         if (begin > 0) dpositions.tensor.slice(0, 0, begin).fill(0);
                         if (begin + L < P) dpositions.tensor.slice(0, begin + L, P).fill(0);
                       }
                       visit_floating(ctx.grad().dtype(), op, [&]<class T>(T) {
                         Sink<T> to = dpositions.of<T>();
                         if (to) to.data += begin * D;
                         TokenPositionBackward<T> args{.B = B,
                                                       .L = L,
                                                       .V = V,
                                                       .D = D,
                                                       .ids = ids.get(op).template data<std::int32_t>(),
                                                       .order = compute::data_or_null<std::int32_t>(order),
                                                       .dy = ctx.grad().data<T>(),
                                                       .mask = mask_of(drop),
                                                       .dtokens = dtokens.of<T>(),
                                                       .dpositions = to};
                         const Exec exec = compute::exec_of(ctx.grad());
                         // One variable for both: the positions then add to what the tokens have written.
                         const bool one_table =
                             dtokens && dpositions && dtokens.tensor.data<T>() == dpositions.tensor.data<T>();
                         if (one_table) {
                           args.dpositions = {};
                           token_position_backward<T>(exec, args);
                           args.dtokens = {};
                           args.dpositions = to;
                         }
                         token_position_backward<T>(exec, args);
                       });
                     });
}

Variable gather(const Variable& x, const Tensor& ids) {
  compute::check_operands("gather", {{"x", x}});
  Shape lead = x.shape();
  WEDGE_CHECK(!lead.empty(), "gather: expected [..., N], got a scalar");
  const std::int64_t n = lead.back();
  lead.pop_back();
  WEDGE_CHECK(ids.shape() == lead, "gather: ids must be {}, got {}", to_string(lead), to_string(ids.shape()));
  const Tensor at = checked_indices("gather", ids, n, x.value());
  check_count("gather", at);
  // x as a table of single elements, n of which belong to each row.
  return pick_rows("gather", reshape(x, {x.value().numel(), 1}), at, n, lead);
}

}  // namespace wedge
