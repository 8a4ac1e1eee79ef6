#include "apps/learning_curve.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include "apps/config_keys.h"
#include "apps/files.h"
#include "apps/format.h"
#include "apps/published.h"
#include "apps/run_state.h"
#include "tensor/check.h"

namespace wedge::app {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kPoints = 200;

Json read_json(const fs::path& path) {
  const Json json = parse_json(read_file(path, kMostOfJson));
  WEDGE_CHECK(!json.is_discarded(), "{}: not JSON", path.string());
  return json;
}

// Means of neighbouring values, about kPoints of them.
Series thinned(const std::vector<double>& x, const std::vector<double>& y) {
  Series series;
  const std::size_t bucket = std::max<std::size_t>(1, x.size() / kPoints);
  for (std::size_t begin = 0; begin < x.size(); begin += bucket) {
    const std::size_t end = std::min(begin + bucket, x.size());
    double sum_x = 0, sum_y = 0;
    for (std::size_t i = begin; i < end; ++i) sum_x += x[i], sum_y += y[i];
    series.x.push_back(sum_x / static_cast<double>(end - begin));
    series.y.push_back(sum_y / static_cast<double>(end - begin));
  }
  return series;
}

// The runs' labels, each with what tells its configuration from the others'.
std::vector<std::string> legend_of(const std::vector<LearningCurve>& curves) {
  constexpr std::size_t kMaxKeys = 3;
  std::vector<RunResult> runs(curves.size());
  std::vector<RunResult*> pointers;
  for (std::size_t i = 0; i < curves.size(); ++i) {
    runs[i].config = curves[i].config;
    runs[i].corpus = curves[i].corpus;
    pointers.push_back(&runs[i]);
  }
  make_comparable(pointers);
  std::vector<Json> configs;
  for (const RunResult& run : runs) configs.push_back(run.config);
  const std::vector<const Key*> keys = differing_keys(configs);
  const std::vector<std::string> names = names_that_differ(configs);
  std::vector<std::string> legend;
  for (std::size_t i = 0; i < curves.size(); ++i) {
    std::string values;
    for (const Key* key : keys)
      values +=
          fmt::format("{}{}={}", values.empty() ? "" : ", ", key->leaf(), get_key(configs[i], *key).dump());
    const std::string label = curves[i].label + names[i];
    legend.push_back(keys.empty() || keys.size() > kMaxKeys ? label : fmt::format("{} ({})", label, values));
    if (curves[i].diverged) legend.back() += fmt::format(", diverged at step {}", curves[i].diverged->step);
  }
  return legend;
}

// The first steps of a run can be so far up that nothing else is seen: what lies above all that comes after
// the first twentieth is cut off.
std::optional<double> limit_of(const Curves& picture) {
  double high = -INFINITY, low = INFINITY;
  for (const Series& s : picture.series)
    for (std::size_t i = s.thin ? s.y.size() / 20 : 0; i < s.y.size(); ++i) {
      high = std::max(high, s.y[i]);
      low = std::min(low, s.y[i]);
    }
  if (!(high > low) || !std::isfinite(high - low)) return {};
  const double limit = high + 0.05 * (high - low);
  return std::isfinite(limit) ? std::optional(limit) : std::nullopt;
}

}  // namespace

LearningCurve read_curve(const RunFolder& folder, const std::string& label) {
  LearningCurve curve;
  curve.label = label;
  if (is_there(folder.config())) curve.config = read_json(folder.config());
  if (is_there(folder.results())) {
    curve.result = read_result(folder.results());
    curve.corpus = curve.result->corpus;
  } else if (const std::vector<fs::path> states = folder.states(); !states.empty()) {
    curve.corpus = corpus_of_state(states.front());
  }

  std::vector<std::int64_t> epochs;  // of the steps
  std::istringstream lines(read_file(folder.metrics()));
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    const Json json = parse_json(line);
    const auto has = [&](const char* key) {
      return json.is_object() && json.contains(key) && json[key].is_number();
    };
    if (has("step") && has("epoch") && has("loss")) {
      epochs.push_back(json["epoch"].get<std::int64_t>());
      curve.step_losses.push_back(json["loss"]);
      curve.diverged.reset();  // only the last line tells of it
    } else if (has("epoch") && has("val_loss")) {
      curve.val_epochs.push_back(json["epoch"].get<double>());
      curve.val_losses.push_back(json["val_loss"]);
    } else if (const auto divergence = divergence_from(json)) {
      curve.diverged = divergence;
    } else {
      WEDGE_CHECK(lines.eof() && json.is_discarded(), "{}: line {} is not one of a run's metrics: {}",
                  folder.metrics().string(), number, line.substr(0, 60));
    }
  }
  // An epoch has as many steps as the first; of a run's only epoch no more is known than what is there.
  const auto per_epoch = std::count(epochs.begin(), epochs.end(), epochs.empty() ? 0 : epochs.front());
  for (std::size_t i = 0, in_epoch = 0; i < epochs.size(); ++i) {
    in_epoch = i > 0 && epochs[i] == epochs[i - 1] ? in_epoch + 1 : 1;
    curve.step_epochs.push_back(static_cast<double>(epochs[i] - epochs.front()) +
                                static_cast<double>(in_epoch) / static_cast<double>(per_epoch));
  }
  return curve;
}

std::vector<LearningCurve> find_curves(const fs::path& root, bool one_of_several,
                                       std::vector<FoundRun>* copies) {
  const FoundRuns found = find_runs(root, "metrics.jsonl", one_of_several);
  std::vector<LearningCurve> curves;
  for (const FoundRun& run : found.runs) curves.push_back(read_curve({run.folder}, run.label));
  if (copies != nullptr) copies->insert(copies->end(), found.copies.begin(), found.copies.end());
  WEDGE_CHECK(!curves.empty(), "{} holds no metrics.jsonl, nor does a folder below it", root.string());
  return curves;
}

Curves picture_of(const std::vector<LearningCurve>& curves) {
  Curves picture{"Loss: validation, and training (pale)", "epoch", "mean cross-entropy (nats)", {}, {}};
  const std::vector<std::string> legend = legend_of(curves);
  for (std::size_t i = 0; i < curves.size(); ++i) {
    Series train = thinned(curves[i].step_epochs, curves[i].step_losses);
    train.label = curves.size() == 1 ? "training" : "";
    train.color = i;
    train.thin = true;
    if (!train.x.empty()) picture.series.push_back(train);
  }
  for (std::size_t i = 0; i < curves.size(); ++i) {
    Series validation{curves.size() == 1 ? "validation" : legend[i],
                      curves[i].val_epochs,
                      curves[i].val_losses,
                      i,
                      false,
                      true};
    if (!validation.x.empty()) picture.series.push_back(validation);
  }
  picture.y_max = limit_of(picture);
  if (curves.size() == 1) {
    const Json strategy = get_key(curves.front().config, find_key("model.tensor_lifting_strategy"));
    picture.title =
        fmt::format("Loss: {}{}", strategy.is_string() ? model_name(strategy) + ", " : "", legend[0]);
  }
  return picture;
}

Bars best_of(const std::vector<LearningCurve>& curves) {
  Bars bars{"Best validation perplexity", "perplexity", {}};
  const std::vector<std::string> legend = legend_of(curves);
  std::set<std::string> published;
  std::set<double> floors;
  std::vector<Bar> of_others;
  for (std::size_t i = 0; i < curves.size(); ++i) {
    if (!curves[i].result) continue;
    const RunResult& result = *curves[i].result;
    const double perplexity = std::exp(result.best_val_loss);
    if (!std::isnormal(perplexity)) continue;  // no axis reaches so far
    std::optional<double> floor = result.floor;
    if (floor) floor = std::exp(*floor);
    if (floor && !std::isnormal(*floor)) floor.reset();
    if (floor) floors.insert(*floor);
    bars.bars.push_back({legend[i], perplexity, format_perplexity(perplexity), i, false, floor});
    for (const Published& other : published_for(result.config)) {
      const std::string label = fmt::format("{}: {}", model_name(other.strategy), other.source);
      if (other.strategy == result.strategy && published.insert(label).second)
        of_others.push_back({label, other.perplexity, format_perplexity(other.perplexity), i, true});
    }
  }
  bars.bars.insert(bars.bars.end(), of_others.begin(), of_others.end());
  double smallest = floors.empty() ? INFINITY : *floors.begin(), largest = 0;
  for (const Bar& bar : bars.bars) {
    smallest = std::min(smallest, bar.value);
    largest = std::max(largest, bar.value);
  }
  bars.logarithmic = largest > 100 * smallest;
  if (bars.logarithmic) bars.x_label += ", logarithmic";
  if (floors.size() == 1) bars.title += " (dashed: the floor of the corpus)";
  if (floors.size() > 1) bars.title += " (dashed: the floor of each run's corpus)";
  return bars;
}

Bars throughput_of(const std::vector<LearningCurve>& curves) {
  Bars bars{"Training throughput", "tokens/s", {}};
  const std::vector<std::string> legend = legend_of(curves);
  for (std::size_t i = 0; i < curves.size(); ++i)
    if (curves[i].result && curves[i].result->tokens_per_second) {
      const double rate = *curves[i].result->tokens_per_second;
      bars.bars.push_back({legend[i], rate, fmt::format("{:.0f}", rate), i, false});
    }
  return bars;
}

}  // namespace wedge::app
