#include "apps/results.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>

#include "apps/config_keys.h"
#include "apps/files.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

const Json& member(const Json& json, const char* key, const std::filesystem::path& path) {
  WEDGE_CHECK(json.contains(key), "{}: {} is missing", path.string(), key);
  return json[key];
}

double number(const Json& value, const char* key, const std::filesystem::path& path) {
  WEDGE_CHECK(value.is_number() && std::isfinite(value.get<double>()), "{}: {} must be a number",
              path.string(), key);
  return value.get<double>();
}

std::optional<double> optional_number(const Json& json, const char* key, const std::filesystem::path& path) {
  if (!json.contains(key) || json[key].is_null()) return std::nullopt;
  return number(json[key], key, path);
}

std::vector<double> numbers(const Json& json, const char* key, const std::filesystem::path& path) {
  std::vector<double> list;
  if (!json.contains(key)) return list;
  WEDGE_CHECK(json[key].is_array(), "{}: {} must be a list of numbers", path.string(), key);
  for (const Json& value : json[key]) list.push_back(number(value, key, path));
  return list;
}

// The keys that say what of a place is read: runs that differ in them have different corpora by right.
std::string what_is_read(const RunResult& run) {
  std::string values;
  for (const Key& key : config_keys())
    if (key.group() == "data" && key.kind == KeyKind::result) values += " " + get_key(run.config, key).dump();
  return values;
}

}  // namespace

Json to_json(const RunResult& result) {
  Json json;
  json["strategy"] = result.strategy;
  json["num_params"] = result.num_params;
  json["best_val_loss"] = result.best_val_loss;
  json["best_val_ppl"] = std::exp(result.best_val_loss);
  json["train_losses"] = result.train_losses;
  json["val_losses"] = result.val_losses;
  if (result.tokens_per_second) json["tokens_per_second"] = *result.tokens_per_second;
  if (result.floor) json["floor"] = *result.floor;
  if (result.corpus) json["corpus"] = *result.corpus;
  json["config"] = result.config;
  return json;
}

RunResult read_result(const std::filesystem::path& path) {
  const Json json = parse_json(read_file(path, kMostOfJson));
  WEDGE_CHECK(json.is_object(), "{}: not a JSON object", path.string());
  RunResult result;
  const Json& strategy = member(json, "strategy", path);
  WEDGE_CHECK(strategy.is_string() && !strategy.get<std::string>().empty(), "{}: strategy must be a string",
              path.string());
  result.strategy = strategy.get<std::string>();
  const Json& num_params = member(json, "num_params", path);
  WEDGE_CHECK(
      num_params.is_number_integer() && num_params.get<double>() >= 0 && num_params.get<double>() < 0x1p63,
      "{}: num_params must be a whole number", path.string());
  result.num_params = num_params.get<std::int64_t>();
  result.best_val_loss = number(member(json, "best_val_loss", path), "best_val_loss", path);
  result.train_losses = numbers(json, "train_losses", path);
  result.val_losses = numbers(json, "val_losses", path);
  result.tokens_per_second = optional_number(json, "tokens_per_second", path);
  result.floor = optional_number(json, "floor", path);
  if (json.contains("corpus")) {
    WEDGE_CHECK(json["corpus"].is_string(), "{}: corpus must be a string", path.string());
    result.corpus = json["corpus"].get<std::string>();
  }
  if (json.contains("config")) result.config = json["config"];
  return result;
}

void make_comparable(const std::vector<RunResult*>& runs) {
  const auto places_of = [](const RunResult& run) {
    Json places = Json::array();
    for (const Key& key : config_keys())
      if (key.kind == KeyKind::place) places.push_back(get_key(run.config, key));
    return places;
  };
  std::map<std::string, Json> places;  // of each corpus
  for (RunResult* run : runs) {
    for (const Key& key : config_keys())
      if (key.in_checkpoint() && !has_key(run->config, key))
        set_key(run->config, key, get_key(Config{}, key));
    if (run->corpus) places.try_emplace(*run->corpus, places_of(*run));
  }
  std::map<std::string, std::string> corpora;  // of each place and the keys of what is read there, the first
  std::set<std::string> shared;                // places that hold more than such keys tell apart
  for (const RunResult* run : runs) {
    if (!run->corpus) continue;
    const std::string place = places[*run->corpus].dump();
    const auto [first, is_new] = corpora.try_emplace(place + what_is_read(*run), *run->corpus);
    if (first->second != *run->corpus) shared.insert(place);
  }
  for (RunResult* run : runs) {
    if (!run->corpus) continue;
    const Json& first = places[*run->corpus];
    std::size_t place = 0;
    for (const Key& key : config_keys())
      if (key.kind == KeyKind::place) set_key(run->config, key, first[place++]);
    if (!shared.contains(first.dump())) continue;
    const Key& key = find_key("data.path");
    const Json path = get_key(run->config, key);
    set_key(run->config, key,
            fmt::format("{} (corpus {})", path.is_string() ? path.get<std::string>() : path.dump(),
                        *run->corpus));
  }
}

std::vector<std::string> names_that_differ(const std::vector<Json>& configs) {
  const Key& key = find_key("experiment.name");
  std::vector<std::string> names;
  std::set<std::string> different;
  for (const Json& config : configs) {
    const Json name = get_key(config, key);
    const std::string text = name.is_string() ? name.get<std::string>() : "";
    different.insert(text);
    names.push_back(text.empty() ? text : ", " + text);
  }
  if (different.size() < 2) std::ranges::fill(names, "");
  return names;
}

}  // namespace wedge::app
