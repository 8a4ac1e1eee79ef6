#include "apps/table.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apps/config_keys.h"
#include "apps/display_text.h"
#include "apps/format.h"

namespace wedge::app {

namespace {

constexpr std::size_t kMaxKeysInLabel = 4;
const char* const kNone = "-";

struct Spread {
  double mean = 0, deviation = 0;
};

// Deviations are squared in units of the largest value: perplexities can be as large as a double holds.
Spread spread_of(const std::vector<double>& values) {
  Spread spread;
  double largest = 0, squares = 0;
  for (double x : values) {
    spread.mean += x / static_cast<double>(values.size());
    largest = std::max(largest, std::abs(x));
  }
  if (values.size() < 2 || largest == 0) return spread;
  for (double x : values) squares += std::pow((x - spread.mean) / largest, 2);
  spread.deviation = largest * std::sqrt(squares / static_cast<double>(values.size() - 1));
  return spread;
}

// Where one is infinite the mean is, and nothing can be said of a spread.
std::string format_perplexities(const std::vector<double>& values) {
  const Spread spread = spread_of(values);
  if (!std::isfinite(spread.mean)) return format_perplexity(spread.mean);
  return fmt::format("{} ± {}", format_perplexity(spread.mean), format_perplexity(spread.deviation));
}

// " (key=value ...)", or nothing where that would be too long to help.
std::string describe_keys_of(const RunResult& result, const std::vector<const Key*>& keys) {
  if (keys.empty() || keys.size() > kMaxKeysInLabel) return {};
  std::vector<std::string> words;
  for (const Key* key : keys)
    words.push_back(fmt::format("{}={}", key->name, get_key(result.config, *key).dump()));
  return fmt::format(" ({})", fmt::join(words, " "));
}

// Equal for runs that differ in the seed alone; empty where there is no configuration to judge by.
std::string identity_without_seed(const RunResult& result) {
  if (!result.config.is_object()) return {};
  Json config = result.config;
  for (const Key& key : config_keys()) {
    if (key.in_checkpoint() && key.name != "seed") continue;
    const std::string group(key.group()), leaf(key.leaf());
    if (group.empty())
      config.erase(leaf);
    else if (config.contains(group) && config[group].is_object())
      config[group].erase(leaf);
  }
  return fmt::format("{} {} {}", result.strategy, result.num_params, nlohmann::json(config).dump());
}

// A cell holds no line end and no bar, which would end it.
std::string cell(const std::string& text) {
  std::string safe;
  for (char c : text) {
    if (c == '|') safe += '\\';
    safe += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return safe;
}

std::string pad(const std::string& text, std::size_t width, bool right) {
  const std::string spaces(width - std::min(width, count_characters(text)), ' ');
  return right ? spaces + text : text + spaces;
}

using Row = TableRow;

std::string render(std::vector<Row> rows, std::size_t text_columns) {
  for (Row& row : rows)
    for (std::string& text : row) text = cell(text);
  std::vector<std::size_t> widths(rows.front().size(), 3);
  for (const Row& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], count_characters(row[i]));
  std::string out;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t i = 0; i < widths.size(); ++i)
      out += "| " + pad(rows[r][i], widths[i], i >= text_columns) + " ";
    out += "|\n";
    if (r > 0) continue;
    for (std::size_t i = 0; i < widths.size(); ++i)
      out += i < text_columns ? "|" + std::string(widths[i] + 2, '-')
                              : "|" + std::string(widths[i] + 1, '-') + ":";
    out += "|\n";
  }
  return out;
}

std::string format_params(std::int64_t n) {
  return fmt::format("{:.2f}", static_cast<double>(n) / 1e6);
}

std::string format_rate(std::optional<double> rate) {
  return rate ? fmt::format("{:.0f}", *rate) : kNone;
}

using Group = std::vector<const LabelledResult*>;

// Runs that differ in the seed alone, by their seeds.
std::map<std::string, Group> by_seed(const Group& group) {
  std::map<std::string, Group> seeds;
  for (const LabelledResult* r : group)
    seeds[get_key(r->result.config, find_key("seed")).dump()].push_back(r);
  return seeds;
}

// The mean over each seed's runs, which are one experiment however often it was run.
template <class Value>
std::vector<double> values_of(const std::map<std::string, Group>& seeds, const Value& value_of) {
  std::vector<double> values;
  for (const auto& [seed, runs] : seeds) {
    double mean = 0;
    for (const LabelledResult* r : runs) mean += value_of(r->result) / static_cast<double>(runs.size());
    values.push_back(mean);
  }
  return values;
}

// The row of runs that differ in the seed alone; `differing` are the keys that tell the table's runs apart.
Row mean_row(const Group& group, std::vector<const Key*> differing) {
  const auto seeds = by_seed(group);
  const auto losses = values_of(seeds, [](const RunResult& r) { return r.best_val_loss; });
  const auto perplexities = values_of(seeds, [](const RunResult& r) { return std::exp(r.best_val_loss); });
  const auto rates = values_of(seeds, [](const RunResult& r) { return r.tokens_per_second.value_or(0); });
  const bool all_rates =
      std::ranges::all_of(group, [](const auto* r) { return r->result.tokens_per_second.has_value(); });
  std::erase(differing, &find_key("seed"));
  std::string label = fmt::format("mean of {} seeds", seeds.size());
  if (group.size() > seeds.size()) label += fmt::format(", {} runs", group.size());
  label += differing.size() > kMaxKeysInLabel ? fmt::format(", {} and on", group.front()->label)
                                              : describe_keys_of(group.front()->result, differing);
  const Spread loss = spread_of(losses);
  return {model_name(group.front()->result.strategy),
          label,
          format_params(group.front()->result.num_params),
          fmt::format("{:.4f} ± {:.4f}", loss.mean, loss.deviation),
          format_perplexities(perplexities),
          format_rate(all_rates ? std::optional(spread_of(rates).mean) : std::nullopt)};
}

// The first of these runs, and how many more there are.
std::string whose(const std::vector<std::string>& labels) {
  constexpr std::size_t kMost = 3;
  const std::size_t named = std::min(labels.size(), kMost);
  std::string text = fmt::format("of {}", fmt::join(labels.begin(), labels.begin() + named, ", "));
  if (labels.size() > named) text += fmt::format(" and {} more", labels.size() - named);
  return text;
}

}  // namespace

std::vector<LabelledResult> comparable(std::vector<LabelledResult> results) {
  std::vector<RunResult*> runs;
  for (LabelledResult& r : results) runs.push_back(&r.result);
  make_comparable(runs);
  return results;
}

std::vector<Json> configs_of(const std::vector<LabelledResult>& results) {
  std::vector<Json> configs;
  for (const LabelledResult& r : results) configs.push_back(r.result.config);
  return configs;
}

std::string comparison_table(const std::vector<LabelledResult>& results) {
  const Table table = comparison_of(results);
  return render(table.rows, table.text_columns);
}

Table comparison_of(const std::vector<LabelledResult>& given) {
  const std::vector<LabelledResult> results = comparable(given);
  std::map<std::string, int> count_of_model;
  std::map<double, std::vector<std::string>> floors;  // and whose they are
  bool with_run = false;
  for (const LabelledResult& r : results) {
    with_run |= ++count_of_model[r.result.strategy] > 1;
    if (r.result.floor) floors[*r.result.floor].push_back(r.label);
  }
  with_run |= floors.size() > 1;

  std::vector<Row> rows = {{"Model", "Run", "Params (M)", "Best Val Loss", "Best Val PPL", "tokens/s"}};
  const std::vector<const Key*> differing = differing_keys(configs_of(results));
  const std::vector<std::string> names = names_that_differ(configs_of(results));
  std::vector<std::pair<std::string, Group>> groups;  // in order of appearance
  for (const LabelledResult& r : results) {
    const RunResult& result = r.result;
    const std::string& name = names[static_cast<std::size_t>(&r - results.data())];
    rows.push_back({model_name(result.strategy), r.label + name + describe_keys_of(result, differing),
                    format_params(result.num_params), fmt::format("{:.4f}", result.best_val_loss),
                    format_perplexity(std::exp(result.best_val_loss)),
                    format_rate(result.tokens_per_second)});
    const std::string identity = identity_without_seed(result);
    if (identity.empty()) continue;
    auto group =
        std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == identity; });
    if (group == groups.end()) group = groups.insert(groups.end(), {identity, {}});
    group->second.push_back(&r);
  }
  for (const auto& [identity, group] : groups)
    if (by_seed(group).size() > 1) rows.push_back(mean_row(group, differing));
  for (const auto& [floor, labels] : floors)
    rows.push_back({"floor of the corpus", floors.size() > 1 ? whose(labels) : kNone, kNone,
                    fmt::format("{:.4f}", floor), format_perplexity(std::exp(floor)), kNone});
  if (!with_run)
    for (Row& row : rows) row.erase(row.begin() + 1);
  return {std::move(rows), with_run ? 2u : 1u};
}

}  // namespace wedge::app
