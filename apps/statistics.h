// Numbers that describe many numbers: distributions, ranks, angles.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace wedge::app {

// Quantiles interpolate linearly between the sorted values, as NumPy's do.
struct Distribution {
  static constexpr std::array<double, 7> kLevels = {0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99};
  std::int64_t count = 0;
  double mean = 0, deviation = 0, min = 0, max = 0;
  std::array<double, 7> quantiles{};
};
// Of no values all but the count is NaN.
Distribution distribution_of(std::vector<double> values);

// exp of the entropy of the singular values σ_i / Σ σ of a matrix, its rows given one after another: how many
// directions they use (Roy and Vetterli, "The effective rank", EUSIPCO 2007). 0 for a matrix of zeros.
double effective_rank(std::span<const double> rows, std::int64_t width);

// Angles in degrees, ascending, between the spaces that two sets of vectors of one width span (Björck and
// Golub 1973).
std::vector<double> principal_angles(const std::vector<std::vector<double>>& a,
                                     const std::vector<std::vector<double>>& b);
// In degrees, between two vectors of one width, neither of them 0.
double angle_between(std::span<const double> a, std::span<const double> b);
// sqrt(Σ v²)
double length_of(std::span<const double> v);

}  // namespace wedge::app
