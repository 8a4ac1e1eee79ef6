#include "apps/table.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apps/config_keys.h"
#include "apps/format.h"

namespace wedge::app {

namespace {

constexpr std::size_t kMaxKeysInLabel = 4;
const char* const kNone = "-";

struct Spread {
  double mean = 0, deviation = 0;
};

Spread spread_of(const std::vector<double>& values) {
  Spread spread;
  for (double x : values) spread.mean += x / static_cast<double>(values.size());
  for (double x : values) spread.deviation += (x - spread.mean) * (x - spread.mean);
  if (values.size() > 1)
    spread.deviation = std::sqrt(spread.deviation / static_cast<double>(values.size() - 1));
  return spread;
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

// Characters, not bytes: ± has two.
std::size_t display_width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string pad(const std::string& text, std::size_t width, bool right) {
  const std::string spaces(width - std::min(width, display_width(text)), ' ');
  return right ? spaces + text : text + spaces;
}

using Row = TableRow;

std::string render(std::vector<Row> rows, std::size_t text_columns) {
  for (Row& row : rows)
    for (std::string& text : row) text = cell(text);
  std::vector<std::size_t> widths(rows.front().size(), 3);
  for (const Row& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
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

// The row of runs that differ in the seed alone; `differing` are the keys that tell the table's runs apart.
Row mean_row(const std::vector<const LabelledResult*>& group, std::vector<const Key*> differing) {
  std::vector<double> losses, perplexities, rates;
  for (const LabelledResult* r : group) {
    losses.push_back(r->result.best_val_loss);
    perplexities.push_back(std::exp(r->result.best_val_loss));
    if (r->result.tokens_per_second) rates.push_back(*r->result.tokens_per_second);
  }
  std::erase(differing, &find_key("seed"));
  std::string label = fmt::format("mean of {} seeds", group.size());
  label += differing.size() > kMaxKeysInLabel ? fmt::format(", {} and on", group.front()->label)
                                              : describe_keys_of(group.front()->result, differing);
  const Spread loss = spread_of(losses), perplexity = spread_of(perplexities);
  const bool all_rates = rates.size() == group.size();
  return {model_name(group.front()->result.strategy),
          label,
          format_params(group.front()->result.num_params),
          fmt::format("{:.4f} ± {:.4f}", loss.mean, loss.deviation),
          fmt::format("{} ± {}", format_perplexity(perplexity.mean), format_perplexity(perplexity.deviation)),
          format_rate(all_rates ? std::optional(spread_of(rates).mean) : std::nullopt)};
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
  bool with_run = false;
  for (const LabelledResult& r : results) with_run |= ++count_of_model[r.result.strategy] > 1;

  std::vector<Row> rows = {{"Model", "Run", "Params (M)", "Best Val Loss", "Best Val PPL", "tokens/s"}};
  const std::vector<const Key*> differing = differing_keys(configs_of(results));
  std::vector<std::pair<std::string, std::vector<const LabelledResult*>>> groups;  // in order of appearance
  std::set<double> floors;
  for (const LabelledResult& r : results) {
    const RunResult& result = r.result;
    rows.push_back({model_name(result.strategy), r.label + describe_keys_of(result, differing),
                    format_params(result.num_params), fmt::format("{:.4f}", result.best_val_loss),
                    format_perplexity(std::exp(result.best_val_loss)),
                    format_rate(result.tokens_per_second)});
    if (result.floor) floors.insert(*result.floor);
    const std::string identity = identity_without_seed(result);
    if (identity.empty()) continue;
    auto group =
        std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == identity; });
    if (group == groups.end()) group = groups.insert(groups.end(), {identity, {}});
    group->second.push_back(&r);
  }
  for (const auto& [identity, group] : groups) {
    std::set<std::string> seeds;
    for (const LabelledResult* r : group) seeds.insert(get_key(r->result.config, find_key("seed")).dump());
    if (seeds.size() > 1 && seeds.size() == group.size()) rows.push_back(mean_row(group, differing));
  }
  for (double floor : floors)
    rows.push_back({"floor of the corpus", kNone, kNone, fmt::format("{:.4f}", floor),
                    format_perplexity(std::exp(floor)), kNone});
  if (!with_run)
    for (Row& row : rows) row.erase(row.begin() + 1);
  return {std::move(rows), with_run ? 2u : 1u};
}

}  // namespace wedge::app
