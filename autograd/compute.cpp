#include "autograd/compute.h"

#include <algorithm>

#include "kernels/matmul.h"

namespace wedge::compute {

namespace {

void check_alike(const char* op, const Tensor& a, const Tensor& b) {
  WEDGE_CHECK(a.dtype() == b.dtype(), "{}: expected operands of one dtype, got {} and {}", op,
              name_of(a.dtype()), name_of(b.dtype()));
  WEDGE_CHECK(a.device() == b.device(), "{}: expected operands on one device, got {} and {}", op,
              name_of(a.device()), name_of(b.device()));
}

}  // namespace

void check_operands(const char* op, std::initializer_list<Operand> operands) {
  const Operand& first = *operands.begin();
  for (const auto& [name, x, optional] : operands) {
    if (!x.defined() && optional) continue;
    WEDGE_CHECK(x.defined(), "{}: expected {}, got an undefined variable", op, name);
    WEDGE_CHECK(is_floating(x.dtype()) && x.dtype() != DType::bf16, "{}: expected float32 or float64, got {}",
                op, name_of(x.dtype()));
    WEDGE_CHECK(x.dtype() == first.variable.dtype(), "{}: {} must be {} as {} is, got {}", op, name,
                name_of(first.variable.dtype()), first.name, name_of(x.dtype()));
    WEDGE_CHECK(x.value().device() == first.variable.value().device(),
                "{}: {} must be on {} as {} is, got {}", op, name, name_of(first.variable.value().device()),
                first.name, name_of(x.value().device()));
  }
}

bool add_up_sums(const BackwardContext& ctx, const GradSink& sink) {
  const cu::PartialSums& sums = ctx.grad_sums();
  if (!sink || !sums) return false;
  if constexpr (kWithCuda) cu::add_up(cu::stream(), sums, sink.of<float>());
  return true;
}

Tensor unary(UnaryOp op, const Tensor& x) {
  const Tensor dense = x.contiguous();
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  visit_floating(x.dtype(), "elementwise", [&]<class T>(T) {
    unary_forward<T>(exec_of(x), {op, x.numel(), dense.data<T>(), y.data<T>()});
  });
  return y;
}

Tensor binary(BinaryOp op, const Tensor& a, const Tensor& b, const char* name) {
  check_alike(name, a, b);
  const Shape shape = broadcast_shapes(a.shape(), b.shape(), name);
  WEDGE_CHECK(static_cast<int>(shape.size()) <= kMaxRank, "{}: at most {} dimensions, got {}", name, kMaxRank,
              to_string(shape));
  const Tensor wide_a = a.broadcast_to(shape), wide_b = b.broadcast_to(shape);
  Tensor y = Tensor::empty(shape, a.dtype(), a.device());
  if (y.numel() == 0) return y;
  visit_floating(a.dtype(), name, [&]<class T>(T) {
    Binary<T> args{op, y.rank(), {}, {}, {}, wide_a.data<T>(), wide_b.data<T>(), y.data<T>()};
    for (int d = 0; d < y.rank(); ++d) {
      args.sizes[d] = shape[d];
      args.a_strides[d] = wide_a.strides()[d];
      args.b_strides[d] = wide_b.strides()[d];
    }
    wedge::binary<T>(exec_of(a), args);
  });
  return y;
}

Tensor scale(const Tensor& x, double alpha) {
  const Tensor dense = x.contiguous();
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  visit_floating(x.dtype(), "scale", [&]<class T>(T) {
    axpy<T>(exec_of(x), {x.numel(), static_cast<T>(alpha), nullptr, dense.data<T>(), {y.data<T>()}});
  });
  return y;
}

void add_into(const Tensor& y, const Tensor& x) {
  const Tensor dense = x.contiguous();
  visit_floating(x.dtype(), "add", [&]<class T>(T) {
    axpy<T>(exec_of(x), {x.numel(), T(1), nullptr, dense.data<T>(), {y.data<T>(), true}});
  });
}

Tensor reduce(ReduceOp op, const Tensor& x, int dim) {
  const Tensor dense = x.contiguous();
  Shape shape = x.shape();
  const OuterInner a(shape, dim);
  shape[dim] = 1;
  WEDGE_CHECK(op == ReduceOp::sum || a.n > 0, "max: dimension {} of {} is empty", dim, to_string(x.shape()));
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  visit_floating(x.dtype(), "reduce", [&]<class T>(T) {
    wedge::reduce<T>(exec_of(x), {op, a.outer, a.n, a.inner, dense.data<T>(), {y.data<T>()}});
  });
  return y;
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  Tensor y = x;
  const int lead = x.rank() - static_cast<int>(shape.size());
  // Neighbouring leading dimensions are summed as one.
  if (lead > 0) {
    Shape folded = {1};
    for (int d = 0; d < lead; ++d) folded[0] *= x.shape()[d];
    folded.insert(folded.end(), x.shape().begin() + lead, x.shape().end());
    y = reduce(ReduceOp::sum, y.reshape(folded), 0);
    y = y.reshape(Shape(y.shape().begin() + 1, y.shape().end()));
  }
  for (int d = 0; d < static_cast<int>(shape.size()); ++d)
    if (shape[d] == 1 && y.shape()[d] != 1) y = reduce(ReduceOp::sum, y, d);
  return y;
}

namespace {

struct Matrices {
  Tensor tensor;
  bool transposed;
  std::int64_t ld;
};

// A matrix whose rows or columns are dense goes to the product as it is; anything else is copied.
Matrices matrices(const Tensor& t) {
  const std::int64_t rows = t.size(-2), cols = t.size(-1);
  const std::int64_t row_stride = t.strides()[t.rank() - 2], col_stride = t.strides()[t.rank() - 1];
  if ((col_stride == 1 || cols == 1) && (row_stride >= cols || rows == 1))
    return {t, false, std::max({row_stride, cols, std::int64_t{1}})};
  if ((row_stride == 1 || rows == 1) && (col_stride >= rows || cols == 1))
    return {t, true, std::max({col_stride, rows, std::int64_t{1}})};
  return {t.clone(), false, std::max<std::int64_t>(cols, 1)};
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  WEDGE_CHECK(a.rank() >= 2 && b.rank() >= 2 && a.size(-1) == b.size(-2),
              "matmul: expected [..., M, K] and [..., K, N], got {} and {}", to_string(a.shape()),
              to_string(b.shape()));
  check_alike("matmul", a, b);
  const std::int64_t M = a.size(-2), K = a.size(-1), N = b.size(-1);
  Shape batch = broadcast_shapes(Shape(a.shape().begin(), a.shape().end() - 2),
                                 Shape(b.shape().begin(), b.shape().end() - 2), "matmul");
  const auto widen = [&](const Tensor& t) {
    Shape shape = batch;
    shape.insert(shape.end(), t.shape().end() - 2, t.shape().end());
    return t.broadcast_to(shape);
  };
  const Matrices lhs = matrices(widen(a)), rhs = matrices(widen(b));
  Shape shape = batch;
  shape.insert(shape.end(), {M, N});
  Tensor c = Tensor::empty(shape, a.dtype(), a.device());
  const std::int64_t batches = numel(batch);
  if (batches == 0) return c;
  visit_floating(a.dtype(), "matmul", [&]<class T>(T) {
    // One launch for all matrices along the last dimension of the batch.
    const int last = static_cast<int>(batch.size()) - 1;
    const std::int64_t inner = last < 0 ? 1 : batch[last];
    const auto operand = [last](const Matrices& m) {
      return GemmOperand<T>{.data = m.tensor.data<T>(),
                            .ld = m.ld,
                            .transposed = m.transposed,
                            .stride = last < 0 ? 0 : m.tensor.strides()[last]};
    };
    const Gemm<T> first{.M = M,
                        .N = N,
                        .K = K,
                        .A = operand(lhs),
                        .B = operand(rhs),
                        .C = {c.data<T>(), std::max<std::int64_t>(N, 1), M * N},
                        .batches = inner};
    for (std::int64_t outer = 0; outer < batches / inner; ++outer) {
      std::int64_t rest = outer, at_a = 0, at_b = 0;
      for (int d = last - 1; d >= 0; --d) {
        at_a += rest % batch[d] * lhs.tensor.strides()[d];
        at_b += rest % batch[d] * rhs.tensor.strides()[d];
        rest /= batch[d];
      }
      Gemm<T> at = first;
      at.A = first.A.offset_by(at_a);
      at.B = first.B.offset_by(at_b);
      at.C.data += outer * inner * M * N;
      gemm<T>(exec_of(a), at);
    }
  });
  return c;
}

}  // namespace wedge::compute
