#include "apps/inspection.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "kernels/plucker_linear.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// exp of the entropy of the square roots of the eigenvalues of rowsᵀ rows, which are the singular values.
double effective_rank(const Eigen::Ref<const Matrix>& rows) {
  if (rows.size() == 0) return 0;
  const bool tall = rows.rows() > rows.cols();
  const Eigen::Index n = tall ? rows.cols() : rows.rows();
  Eigen::MatrixXd gram = Eigen::MatrixXd::Zero(n, n);
  if (tall)
    gram.selfadjointView<Eigen::Lower>().rankUpdate(rows.transpose());
  else
    gram.selfadjointView<Eigen::Lower>().rankUpdate(rows);
  const Eigen::VectorXd values =
      Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(gram, Eigen::EigenvaluesOnly).eigenvalues();
  // What is left of zeros after rounding would count as small singular values.
  const double noise = values.maxCoeff() * static_cast<double>(n) * 2.2e-16;
  std::vector<double> singular;
  double sum = 0;
  for (const double value : values)
    if (value > noise) sum += singular.emplace_back(std::sqrt(value));
  double entropy = 0;
  for (const double s : singular) entropy -= s / sum * std::log(s / sum);
  return singular.empty() ? 0 : std::exp(entropy);
}

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

// The states of one layer: blocks of L rows of width r.
struct States {
  std::vector<double> rows;
  std::int64_t L = 0, r = 0;

  std::int64_t count() const { return std::ssize(rows) / r; }
  const double* at(std::int64_t position) const { return rows.data() + position * r; }
};

// p = z ∧ v; returns ‖p‖.
double wedge_product(const double* z, const double* v, std::int64_t r, double* p) {
  double squares = 0;
  for (std::int64_t i = 0; i < r; ++i)
    for (std::int64_t j = i + 1; j < r; ++j) {
      *p = z[i] * v[j] - z[j] * v[i];
      squares += *p * *p;
      ++p;
    }
  return std::sqrt(squares);
}

double length(const double* z, std::int64_t r) {
  return Eigen::Map<const Eigen::VectorXd>(z, r).norm();
}

// Positions [0, count) of which at most kRankRows are taken.
bool is_sampled(std::int64_t index, std::int64_t count) {
  if (count <= kRankRows) return true;
  return index * kRankRows / count != (index + 1) * kRankRows / count;
}

LagInspection inspect_lag(const States& z, std::int64_t lag) {
  LagInspection result;
  result.lag = lag;
  const std::int64_t P = z.r * (z.r - 1) / 2;
  const std::int64_t pairs = z.count() / z.L * std::max<std::int64_t>(0, z.L - lag);
  std::vector<double> norms, sines, p(static_cast<std::size_t>(P));
  result.mean_direction.assign(static_cast<std::size_t>(P), 0);
  Matrix rows(std::min(pairs, kRankRows), P);
  std::int64_t index = 0, sampled = 0, collapsed = 0;
  for (std::int64_t position = 0; position < z.count(); ++position) {
    if (position % z.L < lag) continue;
    const double *now = z.at(position), *then = z.at(position - lag);
    const double norm = wedge_product(now, then, z.r, p.data());
    const double product = length(now, z.r) * length(then, z.r);
    norms.push_back(norm);
    sines.push_back(product > 0 ? norm / product : 0);
    collapsed += norm <= kPluckerEps;
    auto direction = Eigen::Map<Eigen::RowVectorXd>(p.data(), P);
    direction /= std::max(norm, kPluckerEps);
    Eigen::Map<Eigen::RowVectorXd>(result.mean_direction.data(), P) += direction / static_cast<double>(pairs);
    if (is_sampled(index++, pairs)) rows.row(sampled++) = direction;
  }
  result.norm = distribution_of(std::move(norms));
  result.sine = distribution_of(std::move(sines));
  result.collapsed = pairs > 0 ? static_cast<double>(collapsed) / static_cast<double>(pairs) : 0;
  result.effective_rank = effective_rank(rows.topRows(sampled));
  return result;
}

// Of the mean over the lags that each position has; positions without any are left out.
double rank_of_means(const States& z, const std::vector<std::int64_t>& lags) {
  const std::int64_t P = z.r * (z.r - 1) / 2;
  const std::int64_t shortest = *std::ranges::min_element(lags);
  const std::int64_t count = z.count() / z.L * std::max<std::int64_t>(0, z.L - shortest);
  Matrix rows(std::min(count, kRankRows), P);
  std::vector<double> p(static_cast<std::size_t>(P));
  std::int64_t index = 0, sampled = 0;
  for (std::int64_t position = 0; position < z.count(); ++position) {
    if (position % z.L < shortest || !is_sampled(index++, count)) continue;
    auto row = rows.row(sampled++);
    row.setZero();
    std::int64_t n = 0;
    for (const std::int64_t lag : lags) {
      if (position % z.L < lag) continue;
      const double norm = wedge_product(z.at(position), z.at(position - lag), z.r, p.data());
      row += Eigen::Map<Eigen::RowVectorXd>(p.data(), P) / std::max(norm, kPluckerEps);
      ++n;
    }
    row /= static_cast<double>(n);
  }
  return effective_rank(rows.topRows(sampled));
}

// Sums over positions of what a head's weights [L, L] say.
void add_head(const double* weights, std::int64_t L, HeadInspection& sums) {
  for (std::int64_t t = 0; t < L; ++t) {
    double entropy = 0, distance = 0;
    for (std::int64_t s = 0; s <= t; ++s) {
      const double w = weights[t * L + s];
      if (w > 0) entropy -= w * std::log(w);
      distance += w * static_cast<double>(t - s);
    }
    sums.entropy += entropy;
    if (t > 0) sums.relative_entropy += entropy / std::log(static_cast<double>(t + 1));
    sums.distance += distance;
  }
}

std::vector<std::int64_t> lags_of_layer(const ModelConfig& config, std::size_t layer) {
  return config.layerwise_lags ? std::vector{config.lags[layer]} : config.lags;
}

Json to_json(const Distribution& d) {
  Json json = {{"count", d.count}, {"mean", d.mean}, {"deviation", d.deviation}, {"min", d.min}};
  for (std::size_t i = 0; i < d.quantiles.size(); ++i)
    json[fmt::format("p{:02}", static_cast<int>(std::lround(100 * Distribution::kLevels[i])))] =
        d.quantiles[i];
  json["max"] = d.max;
  return json;
}

double length_of(const std::vector<double>& v) {
  return length(v.data(), std::ssize(v));
}

struct Drift {
  std::vector<std::pair<std::int64_t, double>> by_lag;  // lag, degrees
  std::vector<double> principal;
};

Drift drift_between(const GrassmannInspection& a, const GrassmannInspection& b) {
  Drift drift;
  std::vector<std::vector<double>> of_a, of_b;
  for (const LagInspection& x : a.lags)
    if (length_of(x.mean_direction) > 1e-12) of_a.push_back(x.mean_direction);
  for (const LagInspection& y : b.lags)
    if (length_of(y.mean_direction) > 1e-12) of_b.push_back(y.mean_direction);
  if (!of_a.empty() && !of_b.empty()) drift.principal = principal_angles(of_a, of_b);
  for (std::size_t i = 0; i < std::min(a.lags.size(), b.lags.size()); ++i) {
    const LagInspection &x = a.lags[i], &y = b.lags[i];
    const double lengths = length_of(x.mean_direction) * length_of(y.mean_direction);
    if (x.lag != y.lag || lengths < 1e-24) continue;
    const auto P = std::ssize(x.mean_direction);
    drift.by_lag.emplace_back(
        x.lag, degrees(Eigen::Map<const Eigen::VectorXd>(x.mean_direction.data(), P)
                           .dot(Eigen::Map<const Eigen::VectorXd>(y.mean_direction.data(), P)) /
                       lengths));
  }
  return drift;
}

bool is_grassmann(const Inspection& inspection) {
  return !inspection.layers.empty() && !inspection.layers.front().grassmann.empty();
}

// A line for each index of `lines`, over the layers; `value` gives NaN where there is nothing.
template <class Value>
Curves over_layers(const std::string& title, const std::string& y_label, const Inspection& inspection,
                   const std::vector<std::string>& lines, Value&& value) {
  Curves curves{title, "layer", y_label, {}, {}, true};
  for (std::size_t i = 0; i < lines.size(); ++i) {
    Series series{lines[i], {}, {}, i, false, true};
    for (std::size_t k = 0; k < inspection.layers.size(); ++k)
      if (const double y = value(inspection.layers[k], i); std::isfinite(y)) {
        series.x.push_back(static_cast<double>(k));
        series.y.push_back(y);
      }
    if (!series.x.empty()) curves.series.push_back(std::move(series));
  }
  return curves;
}

std::vector<std::string> all_lags(const Inspection& inspection) {
  std::vector<std::string> names;
  std::size_t most = 0;
  for (const LayerInspection& layer : inspection.layers)
    most = std::max(most, layer.grassmann.front().lags.size());
  // With a lag of its own in each layer, the line goes through all of them.
  if (most == 1) return {"the layer's lag"};
  for (const LagInspection& lag : inspection.layers.front().grassmann.front().lags)
    names.push_back(fmt::format("lag {}", lag.lag));
  return names;
}

Table norms_of(const Inspection& inspection) {
  Table table{{{"Layer", "Lag", "smallest", "1 %", "25 %", "median", "75 %", "99 %", "largest", "collapsed"}},
              0};
  for (std::size_t k = 0; k < inspection.layers.size(); ++k)
    for (const LagInspection& lag : inspection.layers[k].grassmann.front().lags) {
      const auto number = [](double x) { return fmt::format("{:.4g}", x); };
      const Distribution& d = lag.norm;
      table.rows.push_back({std::to_string(k), std::to_string(lag.lag), number(d.min), number(d.quantiles[0]),
                            number(d.quantiles[2]), number(d.quantiles[3]), number(d.quantiles[4]),
                            number(d.quantiles[6]), number(d.max),
                            fmt::format("{:.2f} %", 100 * lag.collapsed)});
    }
  return table;
}

}  // namespace

Distribution distribution_of(std::vector<double> values) {
  Distribution d;
  d.count = std::ssize(values);
  if (values.empty()) return d;
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

double effective_rank(std::span<const double> rows, std::int64_t width) {
  return effective_rank(Eigen::Map<const Matrix>(rows.data(), std::ssize(rows) / width, width));
}

std::vector<double> principal_angles(const std::vector<std::vector<double>>& a,
                                     const std::vector<std::vector<double>>& b) {
  const Eigen::MatrixXd product = orthonormal(a).transpose() * orthonormal(b);
  const Eigen::VectorXd cosines = Eigen::JacobiSVD<Eigen::MatrixXd>(product).singularValues();
  std::vector<double> angles;
  for (const double cosine : cosines) angles.push_back(degrees(cosine));
  return angles;
}

Inspection inspect(const LanguageModel& model, const std::vector<std::vector<std::int32_t>>& blocks) {
  Inspection result;
  std::vector<States> states;
  std::vector<std::vector<double>> alphas;
  const ModelConfig& config = model.config();
  result.layers.resize(static_cast<std::size_t>(config.num_layers));
  states.resize(result.layers.size());
  alphas.resize(result.layers.size());
  for (const std::vector<std::int32_t>& block : blocks) {
    const std::int64_t L = std::ssize(block);
    result.tokens += L;
    result.context_len = L;
    const Tensor ids = Tensor::from(block, {1, L}).to(model.device());
    std::vector<Mixer::Trace> traces = model.trace(ids);
    for (std::size_t k = 0; k < traces.size(); ++k) {
      for (auto& [name, tensor] : traces[k]) {
        const std::vector<double> values = tensor.to_vector();
        if (name == "z") {
          states[k].L = L;
          states[k].r = tensor.size(2);
          states[k].rows.insert(states[k].rows.end(), values.begin(), values.end());
        } else if (name == "alpha") {
          alphas[k].insert(alphas[k].end(), values.begin(), values.end());
        } else if (name == "weights") {
          std::vector<HeadInspection>& heads = result.layers[k].heads;
          heads.resize(static_cast<std::size_t>(tensor.size(1)));
          for (std::size_t head = 0; head < heads.size(); ++head)
            add_head(values.data() + static_cast<std::int64_t>(head) * L * L, L, heads[head]);
        }
      }
    }
  }
  const auto tokens = static_cast<double>(result.tokens), count = static_cast<double>(blocks.size());
  for (std::size_t k = 0; k < result.layers.size(); ++k) {
    for (HeadInspection& head : result.layers[k].heads) {
      head.entropy /= tokens;
      head.relative_entropy /= std::max(1.0, tokens - count);
      head.distance /= tokens;
    }
    if (states[k].rows.empty()) continue;
    GrassmannInspection& layer = result.layers[k].grassmann.emplace_back();
    const std::vector<std::int64_t> lags = lags_of_layer(config, k);
    layer.alpha = distribution_of(std::move(alphas[k]));
    std::vector<double> norms;
    for (std::int64_t t = 0; t < states[k].count(); ++t)
      norms.push_back(length(states[k].at(t), states[k].r));
    layer.state_norm = distribution_of(std::move(norms));
    layer.effective_rank = rank_of_means(states[k], lags);
    for (const std::int64_t lag : lags) layer.lags.push_back(inspect_lag(states[k], lag));
    states[k] = {};
  }
  return result;
}

Json to_json(const Inspection& inspection) {
  Json json = {
      {"tokens", inspection.tokens}, {"context_len", inspection.context_len}, {"layers", Json::array()}};
  double smallest = INFINITY;
  for (std::size_t k = 0; k < inspection.layers.size(); ++k) {
    Json layer = {{"layer", k}};
    for (const GrassmannInspection& g : inspection.layers[k].grassmann) {
      layer["alpha"] = to_json(g.alpha);
      layer["state_norm"] = to_json(g.state_norm);
      layer["effective_rank"] = g.effective_rank;
      layer["lags"] = Json::array();
      for (const LagInspection& lag : g.lags) {
        layer["lags"].push_back({{"lag", lag.lag},
                                 {"norm", to_json(lag.norm)},
                                 {"sine", to_json(lag.sine)},
                                 {"collapsed", lag.collapsed},
                                 {"effective_rank", lag.effective_rank},
                                 {"mean_direction_length", length_of(lag.mean_direction)}});
        if (lag.norm.count > 0) smallest = std::min(smallest, lag.norm.min);
      }
    }
    for (std::size_t h = 0; h < inspection.layers[k].heads.size(); ++h) {
      const HeadInspection& head = inspection.layers[k].heads[h];
      layer["heads"].push_back({{"head", h},
                                {"entropy", head.entropy},
                                {"relative_entropy", head.relative_entropy},
                                {"distance", head.distance}});
    }
    json["layers"].push_back(std::move(layer));
  }
  if (!is_grassmann(inspection)) return json;
  json["collapse"] = {{"threshold", kPluckerEps},
                      {"smallest_norm", std::isfinite(smallest) ? Json(smallest) : Json()},
                      {"times_threshold", std::isfinite(smallest) ? Json(smallest / kPluckerEps) : Json()}};
  json["drift"] = Json::array();
  for (std::size_t k = 0; k + 1 < inspection.layers.size(); ++k) {
    const Drift drift =
        drift_between(inspection.layers[k].grassmann.front(), inspection.layers[k + 1].grassmann.front());
    Json by_lag = Json::array();
    for (const auto& [lag, angle] : drift.by_lag) by_lag.push_back({{"lag", lag}, {"degrees", angle}});
    json["drift"].push_back(
        {{"from", k}, {"to", k + 1}, {"by_lag", by_lag}, {"principal_angles", drift.principal}});
  }
  return json;
}

void describe(const Inspection& inspection, HtmlPage& page) {
  page.paragraph(fmt::format("Over {} tokens, in blocks of {}.", inspection.tokens, inspection.context_len));
  if (!is_grassmann(inspection)) {
    if (inspection.layers.front().heads.empty()) {
      page.paragraph("This mixer tells nothing of what goes on inside.");
      return;
    }
    std::vector<std::string> heads;
    for (std::size_t h = 0; h < inspection.layers.front().heads.size(); ++h)
      heads.push_back(fmt::format("head {}", h));
    page.heading("Entropy of the attention weights");
    page.paragraph(
        "Mean over positions; 0 is a single position, and about 1 in the second picture all alike.");
    page.picture(over_layers("Entropy", "nats", inspection, heads,
                             [](const LayerInspection& l, std::size_t i) { return l.heads[i].entropy; }));
    page.picture(
        over_layers("Entropy over its largest value", "", inspection, heads,
                    [](const LayerInspection& l, std::size_t i) { return l.heads[i].relative_entropy; }));
    page.heading("Mean distance");
    page.paragraph("How many positions back a head looks on average.");
    page.picture(over_layers("Distance", "positions", inspection, heads,
                             [](const LayerInspection& l, std::size_t i) { return l.heads[i].distance; }));
    return;
  }
  const std::vector<std::string> lags = all_lags(inspection);
  const auto lag_of = [](const LayerInspection& l, std::size_t i) -> const LagInspection& {
    return l.grassmann.front().lags[std::min(i, l.grassmann.front().lags.size() - 1)];
  };
  page.heading("Planes");
  page.paragraph(
      "The length of the wedge product of two reduced states, ‖z_t ∧ z_{t-Δ}‖: the area between them. Below "
      "1e-6 its direction is no longer divided by the length, and means nothing.");
  page.picture(
      over_layers("Median of the norm", "", inspection, lags,
                  [&](const LayerInspection& l, std::size_t i) { return lag_of(l, i).norm.quantiles[3]; }));
  page.picture(over_layers("Smallest norm over 1e-6, power of ten", "log10", inspection, lags,
                           [&](const LayerInspection& l, std::size_t i) {
                             return std::log10(lag_of(l, i).norm.min / kPluckerEps);
                           }));
  page.picture(
      over_layers("Median sine of the angle between the two states", "", inspection, lags,
                  [&](const LayerInspection& l, std::size_t i) { return lag_of(l, i).sine.quantiles[3]; }));
  page.table(norms_of(inspection));
  page.heading("Gate");
  page.paragraph("α near 1 keeps the state, near 0 takes the mixed one.");
  page.picture(over_layers("α: mean, and the middle half of its values", "", inspection,
                           {"mean", "25 %", "75 %"}, [](const LayerInspection& l, std::size_t i) {
                             const Distribution& a = l.grassmann.front().alpha;
                             return i == 0 ? a.mean : a.quantiles[i == 1 ? 2 : 4];
                           }));
  page.heading("Effective rank of the Plücker features");
  page.paragraph("How many directions the features use: exp of the entropy of their singular values.");
  std::vector<std::string> with_mean = lags;
  with_mean.push_back("mean over the lags");
  page.picture(
      over_layers("Effective rank", "", inspection, with_mean, [&](const LayerInspection& l, std::size_t i) {
        return i == lags.size() ? l.grassmann.front().effective_rank : lag_of(l, i).effective_rank;
      }));
  page.heading("Mean direction");
  page.paragraph("Its length is 1 where all pairs of a lag span the same plane, 0 where they cancel out.");
  page.picture(over_layers(
      "Length of the mean direction", "", inspection, lags,
      [&](const LayerInspection& l, std::size_t i) { return length_of(lag_of(l, i).mean_direction); }));
  if (inspection.layers.size() < 2) return;
  page.paragraph(
      "Principal angles between the spaces that the mean directions of a layer and of the next one span. "
      "Each "
      "layer has a W_red of its own: the angles compare coordinates.");
  Curves angles{"Drift to the next layer", "layer", "degrees", {}, {}, true};
  for (std::size_t k = 0; k + 1 < inspection.layers.size(); ++k) {
    const Drift drift =
        drift_between(inspection.layers[k].grassmann.front(), inspection.layers[k + 1].grassmann.front());
    for (std::size_t i = 0; i < drift.principal.size(); ++i) {
      if (angles.series.size() <= i)
        angles.series.push_back({fmt::format("angle {}", i + 1), {}, {}, i, false, true});
      angles.series[i].x.push_back(static_cast<double>(k));
      angles.series[i].y.push_back(drift.principal[i]);
    }
  }
  if (!angles.series.empty()) page.picture(angles);
}

std::string summary(const Inspection& inspection) {
  std::string text;
  if (is_grassmann(inspection)) {
    text = "layer  lag  median norm    smallest  collapsed  median sine  effective rank  mean alpha\n";
    for (std::size_t k = 0; k < inspection.layers.size(); ++k) {
      const GrassmannInspection& g = inspection.layers[k].grassmann.front();
      for (const LagInspection& lag : g.lags)
        text +=
            fmt::format("{:>5}  {:>3}  {:>11.4g}  {:>10.3g}  {:>8.2f}%  {:>11.4f}  {:>14.1f}  {:>10.4f}\n", k,
                        lag.lag, lag.norm.quantiles[3], lag.norm.min, 100 * lag.collapsed,
                        lag.sine.quantiles[3], lag.effective_rank, g.alpha.mean);
    }
  } else if (!inspection.layers.front().heads.empty()) {
    text = "layer  head  entropy (nats)  of the largest  mean distance\n";
    for (std::size_t k = 0; k < inspection.layers.size(); ++k)
      for (std::size_t h = 0; h < inspection.layers[k].heads.size(); ++h) {
        const HeadInspection& head = inspection.layers[k].heads[h];
        text += fmt::format("{:>5}  {:>4}  {:>14.4f}  {:>14.4f}  {:>13.2f}\n", k, h, head.entropy,
                            head.relative_entropy, head.distance);
      }
  }
  return text;
}

}  // namespace wedge::app
