#include "apps/checkpoint_metadata.h"

#include <charconv>
#include <cmath>

#include "apps/format.h"
#include "apps/run_dir.h"
#include "models/checkpoint.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

const char* const kFormatVersion = "1";

std::string join_lines(const std::vector<std::string>& lines) {
  return fmt::format("{}", fmt::join(lines, "\n"));
}

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

const std::string& value_of(const SafetensorsFile& file, const char* key) {
  const auto found = file.metadata().find(key);
  WEDGE_CHECK(found != file.metadata().end(), "{}: no '{}' in its metadata: not a checkpoint of wedge train",
              file.path().string(), key);
  return found->second;
}

template <class T>
T integer_of(const SafetensorsFile& file, const char* key) {
  const std::string& text = value_of(file, key);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  WEDGE_CHECK(error == std::errc() && end == text.data() + text.size(), "{}: metadata {} is no number: '{}'",
              file.path().string(), key, text);
  return value;
}

// The file that `path` means. What other folder a user may have taken for a run's is told apart.
std::filesystem::path find_file(const std::filesystem::path& path) {
  std::error_code ignored;
  const RunFolder folder{path};
  if (!std::filesystem::is_directory(path, ignored)) return path;
  if (std::filesystem::exists(folder.best(), ignored)) return folder.best();
  WEDGE_CHECK(
      !std::filesystem::exists(folder.config(), ignored),
      "{}: no best.safetensors: the run has not finished its first epoch; if it was stopped, to go on "
      "with it: wedge train resume={}; if its loss was no longer finite, begin it anew with other "
      "settings",
      path.string(), shell_word(path.string()));
  std::vector<std::string> members;
  for (const RunFolder& member : find_members(path)) members.push_back(member.path.string());
  if (members.size() > 4) members = {members[0], members[1], "...", members.back()};
  WEDGE_CHECK(members.empty(), "{} holds the runs of a multirun, expected one of them: {}", path.string(),
              fmt::join(members, ", "));
  return folder.best();
}

// A few shapes that bound the model's size, checked before a model of that size is made.
void check_shapes(const SafetensorsFile& file, const ModelConfig& model) {
  const auto check = [&](const std::string& name, const Shape& expected) {
    const Shape& shape = file.entry(name).shape;
    WEDGE_CHECK(shape == expected, "{}: {} is {}, but its metadata describes a model with {}",
                file.path().string(), name, to_string(shape), to_string(expected));
  };
  check("token_embedding.weight", {model.vocab_size, model.d_model});
  check("position_embedding.weight", {model.max_context_len, model.d_model});
  const std::string last_block = fmt::format("transformer_blocks.{}.", model.num_layers - 1);
  check(last_block + "attention_norm.weight", {model.d_model});
  check(last_block + "ffn.layers.0.weight", {model.d_model * model.expansion_ratio, model.d_model});
}

}  // namespace

std::map<std::string, std::string> make_metadata(const Config& config, std::int64_t vocab_size,
                                                 const std::vector<std::string>& vocabulary) {
  const Json json = to_json(config, ConfigPart::checkpoint);
  std::map<std::string, std::string> metadata = {
      {"format_version", kFormatVersion},    {"model", json["model"].dump()},
      {"data", json["data"].dump()},         {"train", json["train"].dump()},
      {"seed", std::to_string(config.seed)}, {"vocab_size", std::to_string(vocab_size)}};
  if (!vocabulary.empty()) metadata["vocabulary"] = join_lines(vocabulary);
  return metadata;
}

SafetensorsFile open_checkpoint(const std::filesystem::path& path) {
  SafetensorsFile file(find_file(path));
  WEDGE_CHECK(!file.metadata().contains("progress"),
              "{}: the state of a run, from which training goes on; expected a checkpoint, such as {}",
              file.path().string(), RunFolder{file.path().parent_path()}.best().string());
  return file;
}

Checkpoint read_checkpoint(const std::filesystem::path& path) {
  Checkpoint checkpoint{open_checkpoint(path)};
  const SafetensorsFile& file = checkpoint.file;
  const std::string name = file.path().string();
  const std::string& version = value_of(file, "format_version");
  WEDGE_CHECK(version == kFormatVersion, "{}: format version '{}', this wedge reads {}", name, version,
              kFormatVersion);
  for (const char* group : {"model", "data", "train"}) {
    const Json json = parse_json(value_of(file, group));
    WEDGE_CHECK(json.is_object(), "{}: metadata {} is not a JSON object", name, group);
    update_from_json(checkpoint.config, Json{{group, json}}, name);
  }
  checkpoint.config.seed = integer_of<std::uint64_t>(file, "seed");
  checkpoint.vocab_size = integer_of<std::int64_t>(file, "vocab_size");
  if (file.metadata().contains("vocabulary")) {
    checkpoint.vocabulary = split_lines(value_of(file, "vocabulary"));
    WEDGE_CHECK(static_cast<std::int64_t>(checkpoint.vocabulary.size()) == checkpoint.vocab_size,
                "{}: metadata vocabulary has {} entries, vocab_size is {}", name,
                checkpoint.vocabulary.size(), checkpoint.vocab_size);
  }

  const ModelConfig model = complete_model(checkpoint.config, checkpoint.vocab_size);
  try {
    model.validate();
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", name, error.what()));
  }
  check_shapes(file, model);
  return checkpoint;
}

std::unique_ptr<LanguageModel> load_model(const Checkpoint& checkpoint, Device device) {
  auto model = std::make_unique<LanguageModel>(complete_model(checkpoint.config, checkpoint.vocab_size),
                                               checkpoint.config.seed, DType::f32, device);
  load_weights(checkpoint.file, *model);
  return model;
}

void check_finite(const LanguageModel& model, const std::filesystem::path& file) {
  for (const auto& [name, parameter] : model.named_parameters())
    for (const double value : parameter.value().to_vector())
      WEDGE_CHECK(std::isfinite(value), "{}: not all numbers of {} are finite", file.string(), name);
}

}  // namespace wedge::app
