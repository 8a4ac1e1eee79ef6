#include "apps/config.h"

#include <algorithm>

#include "apps/config_keys.h"
#include "apps/device.h"
#include "apps/tensorboard.h"
#include "models/mixers.h"
#include "tensor/check.h"

namespace wedge::app {

Json parse_json(std::string_view text) {
  constexpr int kMaxDepth = 32;
  bool too_deep = false;
  const auto keep = [&too_deep](int depth, Json::parse_event_t, Json&) {
    too_deep |= depth > kMaxDepth;
    return depth <= kMaxDepth;
  };
  // The JSON library would take a zero byte for the end of the text.
  const bool has_zero = text.find('\0') != std::string_view::npos;
  Json value = has_zero ? Json(Json::value_t::discarded) : Json::parse(text.begin(), text.end(), keep, false);
  return too_deep ? Json(Json::value_t::discarded) : value;
}

ModelConfig complete_model(const Config& config, std::int64_t vocab_size) {
  ModelConfig model = config.model;
  model.max_context_len = config.data.max_context_len;
  model.dropout_rate = config.train.dropout_rate;
  model.vocab_size = vocab_size;
  return model;
}

std::string model_name(const std::string& strategy) {
  for (const MixerEntry& mixer : mixer_table())
    if (mixer.name == strategy) return mixer.model_name;
  return strategy;
}

void validate(const Config& config) {
  complete_model(config, 1).validate();
  resolve_device(config.train.device);
  if (config.train.tensorboard) check_tensorboard();
  const std::string& source = config.data.source;
  WEDGE_CHECK(source != "tokens" || config.data.path, "data=tokens needs data.path=FILE.safetensors");
  if (source == "tokens" || source == "builtin")
    for (const char* name :
         {"data.path", "data.train_file", "data.validation_file", "data.test_file", "data.vocab_file"})
      WEDGE_CHECK(get_key(config, find_key(name)).is_null() ||
                      (source == "tokens" && name == std::string_view("data.path")),
                  "{} means nothing for data={}; expected null", name, source);
}

Json to_json(const Config& config, ConfigPart part) {
  Json json;
  for (const Key& key : config_keys()) {
    if (part == ConfigPart::checkpoint && !key.in_checkpoint()) continue;
    const std::string group(key.group()), leaf(key.leaf());
    (group.empty() ? json : json[group])[leaf] = get_key(config, key);
  }
  return json;
}

void update_from_json(Config& config, const Json& json, const std::string& origin) {
  WEDGE_CHECK(json.is_object(), "{}: the configuration must be a JSON object", origin);
  const auto set = [&](const std::string& name, const Json& value) {
    try {
      set_key(config, find_key(name), value);
    } catch (const Error& error) {
      throw Error(fmt::format("{}: {}", origin, error.what()));
    }
  };
  const auto is_group = [](const std::string& name) {
    return std::ranges::any_of(config_keys(), [&](const Key& key) { return key.group() == name; });
  };
  for (const auto& [name, value] : json.items()) {
    WEDGE_CHECK(value.is_object() || !is_group(name), "{}: {}: expected a group of keys, {{...}}, got {}",
                origin, name, value.dump());
    if (!value.is_object()) {
      set(name, value);
      continue;
    }
    for (const auto& [leaf, leaf_value] : value.items()) set(name + "." + leaf, leaf_value);
  }
}

}  // namespace wedge::app
