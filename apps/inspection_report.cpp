#include "apps/inspection_report.h"

#include <algorithm>
#include <cmath>

#include "apps/format.h"
#include "kernels/plucker_linear.h"

namespace wedge::app {

namespace {

Json to_json(const Distribution& d) {
  Json json = {{"count", d.count}, {"mean", d.mean}, {"deviation", d.deviation}, {"min", d.min}};
  for (std::size_t i = 0; i < d.quantiles.size(); ++i)
    json[fmt::format("p{:02}", static_cast<int>(std::lround(100 * Distribution::kLevels[i])))] =
        d.quantiles[i];
  json["max"] = d.max;
  return json;
}

// A number as `format` has it; a dash for what is not known: the figures of a lag that is not shorter than
// the text are NaN (and null in JSON).
std::string known(const char* format, double value) {
  return std::isnan(value) ? "-" : fmt::format(fmt::runtime(format), value);
}

// gnuplot draws no picture of nothing.
void add_picture(HtmlPage& page, const Curves& curves) {
  if (curves.series.empty())
    page.paragraph(curves.title + ": there are no values.");
  else
    page.picture(curves);
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
  for (const LayerInspection& layer : inspection.layers) most = std::max(most, layer.grassmann->lags.size());
  // With a lag of its own in each layer, the line goes through all of them.
  if (most == 1) return {"the layer's lag"};
  for (const LagInspection& lag : inspection.layers.front().grassmann->lags)
    names.push_back(fmt::format("lag {}", lag.lag));
  return names;
}

Table norms_of(const Inspection& inspection) {
  Table table{{{"Layer", "Lag", "smallest", "1 %", "25 %", "median", "75 %", "99 %", "largest", "collapsed"}},
              0};
  for (std::size_t k = 0; k < inspection.layers.size(); ++k)
    for (const LagInspection& lag : inspection.layers[k].grassmann->lags) {
      const auto number = [](double x) { return known("{:.4g}", x); };
      const Distribution& d = lag.norm;
      table.rows.push_back({std::to_string(k), std::to_string(lag.lag), number(d.min), number(d.quantiles[0]),
                            number(d.quantiles[2]), number(d.quantiles[3]), number(d.quantiles[4]),
                            number(d.quantiles[6]), number(d.max), known("{:.2f} %", 100 * lag.collapsed)});
    }
  return table;
}

void describe_attention(const Inspection& inspection, HtmlPage& page) {
  std::vector<std::string> heads;
  for (std::size_t h = 0; h < inspection.layers.front().heads.size(); ++h)
    heads.push_back(fmt::format("head {}", h));
  page.heading("Entropy of the attention weights");
  page.paragraph("Mean over positions; 0 is a single position, and about 1 in the second picture all alike.");
  add_picture(page, over_layers("Entropy", "nats", inspection, heads,
                                [](const LayerInspection& l, std::size_t i) { return l.heads[i].entropy; }));
  add_picture(
      page, over_layers("Entropy over its largest value", "", inspection, heads,
                        [](const LayerInspection& l, std::size_t i) { return l.heads[i].relative_entropy; }));
  page.heading("Mean distance");
  page.paragraph("How many positions back a head looks on average.");
  add_picture(page, over_layers("Distance", "positions", inspection, heads,
                                [](const LayerInspection& l, std::size_t i) { return l.heads[i].distance; }));
}

void describe_grassmann(const Inspection& inspection, HtmlPage& page) {
  const std::vector<std::string> lags = all_lags(inspection);
  const auto lag_of = [](const LayerInspection& l, std::size_t i) -> const LagInspection& {
    return l.grassmann->lags[std::min(i, l.grassmann->lags.size() - 1)];
  };
  page.heading("Planes");
  page.paragraph(
      "The length of the wedge product of two reduced states, ‖z_t ∧ z_{t-Δ}‖: the area between them. Below "
      "1e-6 its direction is no longer divided by the length, and means nothing.");
  add_picture(page, over_layers("Median of the norm", "", inspection, lags,
                                [&](const LayerInspection& l, std::size_t i) {
                                  return lag_of(l, i).norm.quantiles[3];
                                }));
  add_picture(page, over_layers("Smallest norm over 1e-6, power of ten", "log10", inspection, lags,
                                [&](const LayerInspection& l, std::size_t i) {
                                  return std::log10(lag_of(l, i).norm.min / kPluckerEps);
                                }));
  add_picture(page, over_layers("Median sine of the angle between the two states", "", inspection, lags,
                                [&](const LayerInspection& l, std::size_t i) {
                                  return lag_of(l, i).sine.quantiles[3];
                                }));
  page.table(norms_of(inspection));
  page.heading("Gate");
  page.paragraph("α near 1 keeps the state, near 0 takes the mixed one.");
  add_picture(page, over_layers("α: mean, and the middle half of its values", "", inspection,
                                {"mean", "25 %", "75 %"}, [](const LayerInspection& l, std::size_t i) {
                                  const Distribution& a = l.grassmann->alpha;
                                  return i == 0 ? a.mean : a.quantiles[i == 1 ? 2 : 4];
                                }));
  page.heading("Effective rank of the Plücker features");
  page.paragraph("How many directions the features use: exp of the entropy of their singular values.");
  std::vector<std::string> with_mean = lags;
  with_mean.push_back("mean over the lags");
  add_picture(
      page,
      over_layers("Effective rank", "", inspection, with_mean, [&](const LayerInspection& l, std::size_t i) {
        return i == lags.size() ? l.grassmann->effective_rank : lag_of(l, i).effective_rank;
      }));
  page.heading("Mean direction");
  page.paragraph("Its length is 1 where all pairs of a lag span the same plane, 0 where they cancel out.");
  add_picture(page, over_layers("Length of the mean direction", "", inspection, lags,
                                [&](const LayerInspection& l, std::size_t i) {
                                  return length_of(lag_of(l, i).mean_direction);
                                }));
  if (inspection.drift.empty()) return;
  page.paragraph(
      "Principal angles between the spaces that the mean directions of a layer and of the next one span. "
      "Each layer has a W_red of its own: the angles compare coordinates.");
  Curves angles{"Drift to the next layer", "layer", "degrees", {}, {}, true};
  for (std::size_t k = 0; k < inspection.drift.size(); ++k) {
    const std::vector<double>& principal_angles = inspection.drift[k].principal_angles;
    for (std::size_t i = 0; i < principal_angles.size(); ++i) {
      if (angles.series.size() <= i)
        angles.series.push_back({fmt::format("angle {}", i + 1), {}, {}, i, false, true});
      angles.series[i].x.push_back(static_cast<double>(k));
      angles.series[i].y.push_back(principal_angles[i]);
    }
  }
  if (!angles.series.empty()) page.picture(angles);
}

}  // namespace

Json to_json(const Inspection& inspection) {
  Json json = {
      {"tokens", inspection.tokens}, {"context_len", inspection.context_len}, {"layers", Json::array()}};
  double smallest = INFINITY;
  for (std::size_t k = 0; k < inspection.layers.size(); ++k) {
    Json layer = {{"layer", k}};
    if (inspection.layers[k].grassmann) {
      const GrassmannInspection& g = *inspection.layers[k].grassmann;
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
  for (std::size_t k = 0; k < inspection.drift.size(); ++k) {
    Json by_lag = Json::array();
    for (const auto& [lag, degrees] : inspection.drift[k].by_lag)
      by_lag.push_back({{"lag", lag}, {"degrees", degrees}});
    json["drift"].push_back({{"from", k},
                             {"to", k + 1},
                             {"by_lag", by_lag},
                             {"principal_angles", inspection.drift[k].principal_angles}});
  }
  return json;
}

void describe(const Inspection& inspection, HtmlPage& page) {
  page.paragraph(
      fmt::format("Over {}, in blocks of {}.", counted(inspection.tokens, "token"), inspection.context_len));
  if (is_grassmann(inspection))
    describe_grassmann(inspection, page);
  else if (!inspection.layers.front().heads.empty())
    describe_attention(inspection, page);
  else
    page.paragraph("This mixer tells nothing of what goes on inside.");
}

std::string summary(const Inspection& inspection) {
  std::string text;
  if (is_grassmann(inspection)) {
    text = "layer  lag  median norm    smallest  collapsed  median sine  effective rank  mean alpha\n";
    for (std::size_t k = 0; k < inspection.layers.size(); ++k) {
      const GrassmannInspection& g = *inspection.layers[k].grassmann;
      for (const LagInspection& lag : g.lags)
        text += fmt::format("{:>5}  {:>3}  {:>11}  {:>10}  {:>9}  {:>11}  {:>14}  {:>10.4f}\n", k, lag.lag,
                            known("{:.4g}", lag.norm.quantiles[3]), known("{:.3g}", lag.norm.min),
                            known("{:.2f}%", 100 * lag.collapsed), known("{:.4f}", lag.sine.quantiles[3]),
                            known("{:.1f}", lag.effective_rank), g.alpha.mean);
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
