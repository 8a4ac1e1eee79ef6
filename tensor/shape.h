// Shapes, strides and broadcasting.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wedge {

// Sizes of the dimensions, outermost first. {} is a scalar with one element.
using Shape = std::vector<std::int64_t>;
// Elements (not bytes) between neighbours along each dimension; 0 where a dimension is broadcast.
using Strides = std::vector<std::int64_t>;

// Product of the sizes; throws wedge::Error on a negative size or when it overflows int64.
std::int64_t numel(const Shape& shape);

// Row-major strides of a dense tensor.
Strides contiguous_strides(const Shape& shape);

// "[2, 3]"
std::string to_string(const Shape& shape);

// Makes neighbouring dimensions one where both operands step through them evenly, in place; returns how many
// are left: 0 for a single element.
int merge_dimensions(int rank, std::int64_t* sizes, std::int64_t* a_strides, std::int64_t* b_strides);

// NumPy's rule: align right, sizes must be equal or 1. Throws wedge::Error naming `op` when the shapes do not
// fit.
Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op);

// Whether a tensor of shape `from` repeated by that rule has shape `to`.
bool broadcasts_to(const Shape& from, const Shape& to);

// Maps dim in [-rank, rank) to [0, rank); throws wedge::Error naming `op` otherwise.
int normalize_dim(int dim, int rank, const char* op);

}  // namespace wedge
