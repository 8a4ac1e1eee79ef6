#include "tensor/shape.h"

#include <algorithm>

#include "tensor/check.h"

namespace wedge {

std::int64_t numel(const Shape& shape) {
  std::int64_t n = 1;
  for (const std::int64_t size : shape) {
    WEDGE_CHECK(size >= 0, "shape: sizes must be >= 0, got {}", to_string(shape));
    WEDGE_CHECK(!__builtin_mul_overflow(n, size, &n), "shape: too many elements in {}", to_string(shape));
  }
  return n;
}

Strides contiguous_strides(const Shape& shape) {
  Strides strides(shape.size());
  std::int64_t step = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = step;
    WEDGE_CHECK(!__builtin_mul_overflow(step, std::max<std::int64_t>(shape[i], 1), &step),
                "shape: too many elements in {}", to_string(shape));
  }
  return strides;
}

std::string to_string(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

int merge_dimensions(int rank, std::int64_t* sizes, std::int64_t* a_strides, std::int64_t* b_strides) {
  int last = -1;
  for (int d = 0; d < rank; ++d) {
    const std::int64_t size = sizes[d], a = a_strides[d], b = b_strides[d];
    if (size == 1) continue;
    const bool evenly = last >= 0 && a_strides[last] == size * a && b_strides[last] == size * b;
    if (!evenly) ++last;
    sizes[last] = evenly ? sizes[last] * size : size;
    a_strides[last] = a;
    b_strides[last] = b;
  }
  return last + 1;
}

Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op) {
  const Shape& longer = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  Shape out = longer;
  const std::size_t skip = longer.size() - shorter.size();
  for (std::size_t i = 0; i < shorter.size(); ++i) {
    std::int64_t& size = out[skip + i];
    const std::int64_t other = shorter[i];
    WEDGE_CHECK(size == other || size == 1 || other == 1, "{}: shapes {} and {} do not broadcast", op,
                to_string(a), to_string(b));
    if (size == 1) size = other;
  }
  return out;
}

bool broadcasts_to(const Shape& from, const Shape& to) {
  if (from.size() > to.size()) return false;
  const std::size_t skip = to.size() - from.size();
  for (std::size_t i = 0; i < from.size(); ++i)
    if (from[i] != to[skip + i] && from[i] != 1) return false;
  return true;
}

int normalize_dim(int dim, int rank, const char* op) {
  WEDGE_CHECK(dim >= -rank && dim < rank, "{}: dimension must be in [{}, {}), got {}", op, -rank, rank, dim);
  return dim < 0 ? dim + rank : dim;
}

}  // namespace wedge
