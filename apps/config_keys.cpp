#include "apps/config_keys.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <type_traits>

#include "apps/conf/presets.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

constexpr double kMax = std::numeric_limits<double>::max();
constexpr Range kCount{1, 1e9};
constexpr Range kWidth{1, 65536};
constexpr Range kCountFromZero{0, 1e9};
constexpr Range kNotNegative{0, kMax};
constexpr Range kPositive{0, kMax, false};
constexpr Range kAnySeed{0, 18446744073709551615.0};
using enum KeyKind;

// The field's name in Config is the key's name on the command line.
#define WEDGE_KEY(field, ...)                                         \
  Key {                                                               \
#field, [](Config & c) -> Field { return &c.field; }, __VA_ARGS__ \
  }

constexpr Key kKeys[] = {
    WEDGE_KEY(model.tensor_lifting_strategy, "the mixer, by its name in the mixer table"),
    WEDGE_KEY(model.num_layers, "number of blocks", {1, 4096}),
    WEDGE_KEY(model.d_model, "width d of the residual stream", kWidth),
    WEDGE_KEY(model.num_heads, "attention heads; divides d_model", kWidth),
    WEDGE_KEY(model.expansion_ratio, "width of the feed-forward layer / d_model", {1, 1024}),
    WEDGE_KEY(model.d_low, "Grassmann: reduced width r", {2, 4096}),
    WEDGE_KEY(model.lags, "Grassmann: the lags W", kCount),
    WEDGE_KEY(model.pre_norm, "normalise before the mixer and the feed-forward, not after"),
    WEDGE_KEY(model.layerwise_lags, "Grassmann: layer k uses lags[k] alone"),
    WEDGE_KEY(model.weight_tying, "the head is the token embedding"),
    WEDGE_KEY(model.init, "initial weights", {}, "torch|gpt2"),

    WEDGE_KEY(data.source, "kind of source, set by the data preset", {}, "parquet|text|tokens|builtin"),
    WEDGE_KEY(data.path, "folder of text or Parquet files; null: WikiText-2; or the file of tokens", {}, {},
              place),
    WEDGE_KEY(data.train_file, "training file, in data.path unless absolute", {}, {}, place),
    WEDGE_KEY(data.validation_file, "validation file, in data.path unless absolute", {}, {}, place),
    WEDGE_KEY(data.test_file, "test file, in data.path unless absolute", {}, {}, place),
    WEDGE_KEY(data.vocab_file, "WordPiece vocabulary; null: bert-base-uncased's in $WEDGE_DATA", {}, {},
              place),
    WEDGE_KEY(data.max_context_len, "L, tokens of context", {1, 1 << 20}),
    WEDGE_KEY(data.max_samples_train, "training rows to read; null: all", kCount),
    WEDGE_KEY(data.max_samples_val, "validation rows to read; null: all", kCount),

    WEDGE_KEY(train.device, "where to compute; auto: a GPU if there is one", {}, "auto|cpu|cuda", execution),
    WEDGE_KEY(train.batch_size, "blocks of a batch", {1, 1 << 20}),
    WEDGE_KEY(train.num_epochs, "passes over the training blocks", {1, 1000000}),
    WEDGE_KEY(train.accumulate, "batches whose gradients make one step", {1, 1 << 20}),
    WEDGE_KEY(train.warmup_steps, "steps of linear warm-up before the cosine", kCountFromZero),
    WEDGE_KEY(train.max_steps, "stop after so many steps of the full run's schedule; null: never", kCount),
    WEDGE_KEY(train.checkpoint_every, "steps from one checkpoint to the next; null: one an epoch", kCount, {},
              execution),
    WEDGE_KEY(train.learning_rate, "peak learning rate", kNotNegative),
    WEDGE_KEY(train.weight_decay, "AdamW's decay, on every parameter", kNotNegative),
    WEDGE_KEY(train.grad_clip, "largest global gradient norm; null: no clipping", kPositive),
    WEDGE_KEY(train.dropout_rate, "probability that an activation is dropped", {0, 1, true, false}),
    WEDGE_KEY(train.shuffle, "a new order of blocks every epoch"),
    WEDGE_KEY(train.amp, "on a GPU, products of bfloat16 copies, sums in float32; nothing on the CPU"),
    WEDGE_KEY(train.amp_on_cpu,
              "the same on a CPU with AMX, whatever train.amp says; eval without AMX: float32"),
    WEDGE_KEY(train.graph, "on a GPU, replay steps as CUDA graphs: the same bits, sooner", {}, {}, execution),
    WEDGE_KEY(train.init_from, "start from the weights of this .safetensors file, or of a run's best"),
    WEDGE_KEY(train.tensorboard, "also write the metrics as TensorBoard event files", {}, {}, execution),
    WEDGE_KEY(train.threads, "threads; null: one for each core", {1, 1024}, {}, execution),
    WEDGE_KEY(train.num_workers, "accepted and does nothing (PyTorch's loader)", kCountFromZero, {},
              execution),
    WEDGE_KEY(train.pin_memory, "accepted and does nothing (PyTorch's loader)", {}, {}, execution),

    WEDGE_KEY(experiment.name, "a name for the records", {}, {}, record),
    WEDGE_KEY(experiment.run_dir, "the run's folder; with -m, the folder above the runs", {}, {}, record),

    WEDGE_KEY(seed, "of initial weights, dropout and order of blocks", kAnySeed),
};

#undef WEDGE_KEY

template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

// What a value of C++ type T is called in messages.
template <class T>
std::string name_of_type() {
  if constexpr (IsOptional<T>::value)
    return name_of_type<typename T::value_type>() + " or null";
  else if constexpr (std::is_same_v<T, bool>)
    return "true or false";
  else if constexpr (std::is_integral_v<T>)
    return "an integer";
  else if constexpr (std::is_floating_point_v<T>)
    return "a number";
  else if constexpr (std::is_same_v<T, std::string>)
    return "a string";
  else
    return "a list of integers";
}

[[noreturn]] void fail_type(const Key& key, const Json& value) {
  std::string hint;
  // "nan", "1e999" and "1e-999" are bare words to a JSON parser, but not what the user meant.
  if (value.is_string() && type_name(key).starts_with("a number")) {
    const std::string text = value.get<std::string>();
    char* end = nullptr;
    const double number = std::strtod(text.c_str(), &end);
    if (end != text.c_str() && *end == '\0' && !std::isfinite(number)) hint = " (not finite)";
    if (end != text.c_str() && *end == '\0' && number == 0) hint = " (too small)";
  }
  if (!value.is_string() && type_name(key).starts_with("a string"))
    hint = fmt::format(R"( (a string of these characters is written '"{}"'))", value.dump());
  throw Error(fmt::format("{}: expected {}, got {}{}", key.name, type_name(key), value.dump(), hint));
}

std::string describe(const Range& range) {
  const auto number = [](double x) { return Json(x).dump(); };
  const auto integer = [&](double x) {
    if (x == 0x1p64) return std::string("18446744073709551615");  // the largest seed, which no double is
    return std::abs(x) < 1e20 && x == std::floor(x) ? fmt::format("{:.0f}", x) : number(x);
  };
  if (range.high == kMax)
    return fmt::format("{} {}", range.low_included ? "at least" : "more than", integer(range.low));
  return fmt::format("from {} to {}{}", integer(range.low), range.high_included ? "" : "less than ",
                     integer(range.high));
}

void check_range(const Key& key, const Json& value) {
  const Range& r = key.range;
  const auto x = value.get<double>();
  const bool inside =
      (r.low_included ? x >= r.low : x > r.low) && (r.high_included ? x <= r.high : x < r.high);
  WEDGE_CHECK(inside, "{}: must be {}, got {}", key.name, describe(r), value.dump());
}

void check_string(const Key& key, const std::string& text) {
  WEDGE_CHECK(!text.empty(), "{}: must not be empty", key.name);
  WEDGE_CHECK(text.find('\0') == std::string::npos, "{}: must not hold a zero byte", key.name);
  if (key.choices.empty()) return;
  const std::vector<std::string_view> choices = split_choices(key.choices);
  WEDGE_CHECK(std::find(choices.begin(), choices.end(), text) != choices.end(), "{}: must be {}, got {}",
              key.name, fmt::join(choices, " or "), text);
}

template <class T>
void assign(const Key& key, const Json& value, T& target) {
  if constexpr (IsOptional<T>::value) {
    if (value.is_null()) {
      target.reset();
    } else {
      typename T::value_type inner{};
      assign(key, value, inner);
      target = inner;
    }
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!value.is_boolean()) fail_type(key, value);
    target = value.get<bool>();
  } else if constexpr (std::is_integral_v<T>) {
    if (!value.is_number_integer()) fail_type(key, value);
    check_range(key, value);
    target = value.get<T>();
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!value.is_number()) fail_type(key, value);
    check_range(key, value);
    target = value.get<double>();
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!value.is_string()) fail_type(key, value);
    check_string(key, value.get<std::string>());
    target = value.get<std::string>();
  } else {
    if (!value.is_array()) fail_type(key, value);
    T list;
    for (const Json& element : value) {
      if (!element.is_number_integer()) fail_type(key, value);
      check_range(key, element);
      list.push_back(element.get<typename T::value_type>());
    }
    target = std::move(list);
  }
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

std::string_view last_part(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

std::string_view group_of(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

// Whether one of the words of `name`, which have _ between them, begins with `start`.
bool begins_a_word(std::string_view name, std::string_view start) {
  if (start.size() < 3) return false;
  for (std::size_t at = 0; at < name.size(); at = std::min(name.find('_', at), name.size() - 1) + 1)
    if (name.substr(at).starts_with(start)) return true;
  return false;
}

}  // namespace

std::span<const Key> config_keys() {
  return kKeys;
}

std::vector<std::string_view> names_of(KeyKind kind) {
  std::vector<std::string_view> names;
  for (const Key& key : kKeys)
    if (key.kind == kind) names.push_back(key.name);
  return names;
}

const Key& find_key(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Key& key : kKeys) {
    if (key.name == name) return key;
    names.push_back(key.name);
  }
  for (const PresetGroup& group : preset_groups()) names.push_back(group.name);
  throw Error(fmt::format("unknown key '{}'; {}", name, nearest_is(name, names, "see wedge train --help")));
}

std::vector<std::string_view> split_choices(std::string_view choices) {
  std::vector<std::string_view> list;
  for (std::size_t begin = 0; begin <= choices.size();) {
    const std::size_t end = std::min(choices.find('|', begin), choices.size());
    list.push_back(choices.substr(begin, end - begin));
    begin = end + 1;
  }
  return list;
}

void set_key(Config& config, const Key& key, const Json& value) {
  std::visit([&](auto* target) { assign(key, value, *target); }, key.field(config));
}

Json get_key(const Config& config, const Key& key) {
  // The accessor takes a mutable Config because the table is shared with set_key; nothing is written here.
  return std::visit(
      [](const auto* source) -> Json {
        if constexpr (IsOptional<std::decay_t<decltype(*source)>>::value)
          return source->has_value() ? Json(**source) : Json(nullptr);
        else
          return Json(*source);
      },
      key.field(const_cast<Config&>(config)));
}

Json get_key(const Json& config, const Key& key) {
  const auto member = [](const Json& json, std::string_view name) {
    return json.is_object() ? json.value(std::string(name), Json()) : Json();
  };
  return key.group().empty() ? member(config, key.leaf()) : member(member(config, key.group()), key.leaf());
}

bool has_key(const Json& config, const Key& key) {
  const std::string group(key.group()), leaf(key.leaf());
  if (!config.is_object()) return false;
  if (group.empty()) return config.contains(leaf);
  return config.contains(group) && config[group].is_object() && config[group].contains(leaf);
}

void set_key(Json& config, const Key& key, const Json& value) {
  const std::string group(key.group()), leaf(key.leaf());
  if (!config.is_object() || (!group.empty() && !(config.contains(group) && config[group].is_object())))
    return;
  (group.empty() ? config : config[group])[leaf] = value;
}

std::vector<const Key*> differing_keys(const std::vector<Json>& configs) {
  std::vector<const Key*> keys;
  for (const Key& key : kKeys) {
    if (!key.in_checkpoint() || key.name == "model.tensor_lifting_strategy") continue;
    std::set<std::string> values;
    for (const Json& config : configs) values.insert(get_key(config, key).dump());
    if (values.size() > 1) keys.push_back(&key);
  }
  return keys;
}

std::string describe_range(const Key& key) {
  const bool any = key.range.low == Range{}.low && key.range.high == Range{}.high;
  return any ? std::string() : describe(key.range);
}

std::string type_name(const Key& key) {
  static Config example;
  return std::visit([](auto* target) { return name_of_type<std::decay_t<decltype(*target)>>(); },
                    key.field(example));
}

std::string nearest_is(std::string_view word, const std::vector<std::string_view>& candidates,
                       std::string_view otherwise) {
  word = word.substr(0, word.find('='));
  const std::string_view last = last_part(word) == "lr" ? "learning_rate" : last_part(word);
  const std::string_view group = group_of(word);
  std::string_view found;
  // Farther than this, a word was not meant.
  std::size_t nearest = 1 + (last.size() <= 3 ? 1 : std::max<std::size_t>(2, last.size() / 3));
  for (const std::string_view candidate : candidates) {
    const std::string_view name = candidate.substr(0, candidate.find('=')), its_last = last_part(name);
    const std::size_t edits = edit_distance(last, its_last);
    const bool begins = begins_a_word(its_last, last) || (its_last.size() > 2 && last.starts_with(its_last));
    const std::size_t of_last = begins ? std::min<std::size_t>(1, edits) : edits;
    const std::size_t elsewhere = group.empty() || group == group_of(name) ? 0 : 2;
    const std::size_t distance = std::min(edit_distance(word, name), of_last + elsewhere);
    if (distance < nearest) nearest = distance, found = candidate;
  }
  return found.empty() ? std::string(otherwise) : fmt::format("the nearest is {}", found);
}

}  // namespace wedge::app
