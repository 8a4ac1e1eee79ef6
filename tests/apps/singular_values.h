// Singular values of small matrices, and their effective rank.
#pragma once

#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

namespace wedge::test {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

// Singular values of a small matrix by one-sided Jacobi rotations.
inline Row singular_values(Rows columns) {
  for (int sweep = 0; sweep < 60; ++sweep)
    for (std::size_t i = 0; i < columns.size(); ++i)
      for (std::size_t j = i + 1; j < columns.size(); ++j) {
        double a = 0, b = 0, c = 0;
        for (std::size_t k = 0; k < columns[i].size(); ++k) {
          a += columns[i][k] * columns[i][k];
          b += columns[j][k] * columns[j][k];
          c += columns[i][k] * columns[j][k];
        }
        if (std::abs(c) < 1e-300) continue;
        const double zeta = (b - a) / (2 * c);
        const double t = (zeta >= 0 ? 1 : -1) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
        const double cosine = 1 / std::sqrt(1 + t * t), sine = cosine * t;
        for (std::size_t k = 0; k < columns[i].size(); ++k) {
          const double x = columns[i][k];
          columns[i][k] = cosine * x - sine * columns[j][k];
          columns[j][k] = sine * x + cosine * columns[j][k];
        }
      }
  Row values;
  for (const Row& column : columns)
    values.push_back(std::sqrt(std::inner_product(column.begin(), column.end(), column.begin(), 0.0)));
  return values;
}

inline double rank_of(const Rows& rows) {
  Rows columns(rows[0].size());
  for (const Row& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) columns[i].push_back(row[i]);
  const Row values = singular_values(columns);
  double sum = 0, entropy = 0;
  for (const double v : values) sum += v;
  for (const double v : values)
    if (v > 1e-13 * sum) entropy -= v / sum * std::log(v / sum);
  return std::exp(entropy);
}

}  // namespace wedge::test
