#include "apps/statistics.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <numbers>

namespace wedge::app {

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::MatrixXd orthonormal(const std::vector<std::vector<double>>& vectors) {
  const auto width = static_cast<Eigen::Index>(vectors.front().size());
  Eigen::MatrixXd columns(width, static_cast<Eigen::Index>(vectors.size()));
  for (std::size_t i = 0; i < vectors.size(); ++i) {
    const Eigen::Map<const Eigen::VectorXd> v(vectors[i].data(), width);
    columns.col(static_cast<Eigen::Index>(i)) = v.normalized();
  }
  const Eigen::ColPivHouseholderQR<Eigen::MatrixXd> qr(columns);
  return qr.householderQ() * Eigen::MatrixXd::Identity(width, qr.rank());
}

double degrees(double cosine) {
  return std::acos(std::clamp(cosine, -1.0, 1.0)) * 180 / std::numbers::pi;
}

Eigen::Map<const Eigen::VectorXd> vector_of(std::span<const double> v) {
  return {v.data(), std::ssize(v)};
}

}  // namespace

Distribution distribution_of(std::vector<double> values) {
  Distribution d;
  d.count = std::ssize(values);
  if (values.empty()) {
    d.mean = d.deviation = d.min = d.max = NAN;
    d.quantiles.fill(NAN);
    return d;
  }
  std::sort(values.begin(), values.end());
  d.min = values.front();
  d.max = values.back();
  const auto n = static_cast<double>(values.size());
  for (const double x : values) d.mean += x / n;
  for (const double x : values) d.deviation += (x - d.mean) * (x - d.mean) / n;
  d.deviation = std::sqrt(d.deviation);
  for (std::size_t i = 0; i < d.quantiles.size(); ++i) {
    const double place = Distribution::kLevels[i] * (n - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    d.quantiles[i] = values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  }
  return d;
}

// exp of the entropy of the square roots of the eigenvalues of rowsᵀ rows, which are the singular values.
double effective_rank(std::span<const double> values, std::int64_t width) {
  if (values.empty()) return 0;
  const Eigen::Map<const Matrix> rows(values.data(), std::ssize(values) / width, width);
  const bool tall = rows.rows() > rows.cols();
  const Eigen::Index n = tall ? rows.cols() : rows.rows();
  Eigen::MatrixXd gram = Eigen::MatrixXd::Zero(n, n);
  if (tall)
    gram.selfadjointView<Eigen::Lower>().rankUpdate(rows.transpose());
  else
    gram.selfadjointView<Eigen::Lower>().rankUpdate(rows);
  const Eigen::VectorXd squares =
      Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(gram, Eigen::EigenvaluesOnly).eigenvalues();
  // What is left of zeros after rounding would count as small singular values.
  const double noise = squares.maxCoeff() * static_cast<double>(n) * 2.2e-16;
  std::vector<double> singular;
  double sum = 0;
  for (const double square : squares)
    if (square > noise) sum += singular.emplace_back(std::sqrt(square));
  double entropy = 0;
  for (const double s : singular) entropy -= s / sum * std::log(s / sum);
  return singular.empty() ? 0 : std::exp(entropy);
}

std::vector<double> principal_angles(const std::vector<std::vector<double>>& a,
                                     const std::vector<std::vector<double>>& b) {
  const Eigen::MatrixXd product = orthonormal(a).transpose() * orthonormal(b);
  const Eigen::VectorXd cosines = Eigen::JacobiSVD<Eigen::MatrixXd>(product).singularValues();
  std::vector<double> angles;
  for (const double cosine : cosines) angles.push_back(degrees(cosine));
  return angles;
}

double angle_between(std::span<const double> a, std::span<const double> b) {
  return degrees(vector_of(a).dot(vector_of(b)) / (length_of(a) * length_of(b)));
}

double length_of(std::span<const double> v) {
  return vector_of(v).norm();
}

}  // namespace wedge::app
