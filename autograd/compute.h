// Arithmetic on tensors without a tape: what the operations' forward and backward passes are written in.
#pragma once

#include "autograd/record.h"
#include "kernels/elementwise.h"
#include "kernels/exec.h"
#include "kernels/reduce.h"
#include "tensor/bf16_copy.h"
#include "tensor/cuda/gpu.h"
#include "tensor/cuda/side_stream.h"
#include "tensor/tensor.h"

namespace wedge::compute {

// Where the kernels for this tensor run.
inline Exec exec_of(const Tensor& t) {
  if constexpr (kWithCuda)
    if (t.device() == Device::cuda) return {Device::cuda, cu::stream(), bf16_products()};
  return {.device = t.device(), .bf16_products_on_cpu = bf16_products_on_cpu()};
}

// The weight as bfloat16 where products want it so and the tensor keeps such a copy, else null.
inline const BFloat16* rounded(const Exec& exec, const Tensor& weight, std::int64_t rows_multiple = 1) {
  return exec.bf16_products ? Bf16Copy(weight).weight(rows_multiple) : nullptr;
}

// The same of an activation that several products read, in forward and backward, or of a gradient.
inline const BFloat16* rounded_activation(const Exec& exec, const Tensor& x) {
  return exec.bf16_products ? Bf16Copy(x).activation() : nullptr;
}

// Where a kernel that writes `y`, which products are to read, writes that copy in the same pass; or null.
inline BFloat16* round_into(const Exec& exec, const Tensor& y) {
  return exec.bf16_products ? Bf16Copy(y).for_writing() : nullptr;
}
// The same for a gradient, where the op that it goes to multiplies it. Ask when all sinks are taken: two may
// be one tensor.
inline BFloat16* round_into(const Exec& exec, const GradSink& sink) {
  return sink && sink.use.is_factor ? round_into(exec, sink.tensor) : nullptr;
}

// Where a kernel that fills `sink` may write partial sums of its columns, if they are asked for: `pieces` of
// them (0: none). What it wrote goes to BackwardContext::give_sums.
inline cu::PartialSums sums_into(const GradSink& sink, std::int64_t pieces) {
  return sink && sink.use.is_summed ? cu::PartialSums(pieces, sink.tensor.size(-1)) : cu::PartialSums();
}
// Whether the consumer of a sink's tensor reads only the copy that round_into gave and, if asked for, the
// sums: a kernel that makes these may skip the tensor itself. Never outside Bf16ProductsGuard, where the
// consumer may want float32.
inline bool write_copy_alone(const GradSink& sink, const BFloat16* copy, const cu::PartialSums& sums) {
  return sink && !sink.add && sink.use.reads_copy_alone && bf16_products() && copy != nullptr &&
         (sums || !sink.use.is_summed);
}
// `sink` (+)= the sum of ctx.grad() over all dimensions but the last, from such partial sums: false where
// there are none.
bool add_up_sums(const BackwardContext& ctx, const GradSink& sink);

// Calls body(exec), which fills `sink` from `reads`: on the side stream where the sink is a leaf's on a GPU,
// else at once. `body` must not call ctx.sink(), and nobody changes `reads` before backward returns.
template <class Body>
void beside(Exec exec, const GradSink& sink, std::vector<Tensor> reads, const Body& body) {
  if constexpr (kWithCuda) {
    if (sink.side != nullptr) {
      const Tensor& to = sink.tensor;
      return sink.side->run(std::move(reads), {to.data<float>(), static_cast<std::size_t>(to.numel())}, [&] {
        exec.stream = cu::stream();
        body(exec);
      });
    }
  }
  body(exec);
}

// Null for an undefined tensor.
template <class T>
T* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}
// x's value, dense; undefined where x is.
inline Tensor dense_or_none(const Variable& x) {
  return x.defined() ? x.value().contiguous() : Tensor();
}

// A bfloat16 tensor like `dy` for what only products read, where they want it so; else undefined.
inline Tensor empty_rounded(const Exec& exec, const Tensor& dy) {
  const bool wanted = exec.bf16_products && dy.dtype() == DType::f32;
  return wanted ? Tensor::empty(dy.shape(), DType::bf16, dy.device()) : Tensor();
}

// An input of an op, by the name that ops.h has for it.
struct Operand {
  const char* name;
  const Variable& variable;
  bool optional = false;
};
// Throws wedge::Error naming `op` and the operand unless all are defined, but for optional ones, are float32
// or float64, and have the dtype and device of the first one.
void check_operands(const char* op, std::initializer_list<Operand> operands);

// f(x), dense.
Tensor unary(UnaryOp op, const Tensor& x);
// a op b with broadcasting; `name` is for the error message.
Tensor binary(BinaryOp op, const Tensor& a, const Tensor& b, const char* name);
// alpha · x, dense.
Tensor scale(const Tensor& x, double alpha);
// y += x; both dense, same shape.
void add_into(const Tensor& y, const Tensor& x);
// A shape as dimension `dim`, of size n, with all before it and all after it as one each.
struct OuterInner {
  std::int64_t outer = 1, n, inner = 1;
  OuterInner(const Shape& shape, int dim) : n(shape[dim]) {
    for (int d = 0; d < static_cast<int>(shape.size()); ++d)
      if (d != dim) (d < dim ? outer : inner) *= shape[d];
  }
};
// Reduces dimension `dim`, which stays with size 1.
Tensor reduce(ReduceOp op, const Tensor& x, int dim);
// Sums over the dimensions in which `shape` was broadcast to x's shape.
Tensor sum_to(const Tensor& x, const Shape& shape);
// Batched matrix product [..., M, K] x [..., K, N] with broadcast batch dimensions, either operand possibly
// transposed.
Tensor matmul(const Tensor& a, const Tensor& b);

}  // namespace wedge::compute
