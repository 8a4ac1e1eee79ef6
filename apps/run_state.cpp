#include "apps/run_state.h"

#include <zlib.h>

#include <map>
#include <span>
#include <sstream>

#include "apps/config_keys.h"
#include "apps/files.h"
#include "apps/format.h"
#include "models/checkpoint.h"
#include "tensor/check.h"
#include "tensor/safetensors.h"

namespace wedge::app {

namespace fs = std::filesystem;

namespace {

const char* const kFormatVersion = "1";
const char* const kFirst = "exp_avg.";
const char* const kSecond = "exp_avg_sq.";

using Metadata = std::map<std::string, std::string>;
using NamedBytes = std::map<std::string, std::span<const std::byte>>;

class Checksum {
 public:
  void add(const void* data, std::size_t bytes) {
    crc_ = ::crc32_z(crc_, static_cast<const Bytef*>(data), bytes);
  }
  void add(const std::string& text) { add(text.c_str(), text.size() + 1); }
  std::uint32_t value() const { return static_cast<std::uint32_t>(crc_); }

 private:
  uLong crc_ = ::crc32_z(0, nullptr, 0);
};

// Over everything but the checksum itself.
std::string checksum(const Metadata& metadata, const NamedBytes& tensors) {
  Checksum sum;
  for (const auto& [key, value] : metadata) {
    if (key == "crc32") continue;
    sum.add(key);
    sum.add(value);
  }
  for (const auto& [name, bytes] : tensors) {
    sum.add(name);
    sum.add(bytes.data(), bytes.size());
  }
  return fmt::format("{:08x}", sum.value());
}

std::string checkpoint_part(const Config& config) {
  return to_json(config, ConfigPart::checkpoint).dump();
}

// "KEY is VALUE in the state and VALUE in the configuration, ..." for all that decides the result and is not
// the same. (Where a corpus lies decides nothing: its checksum is compared.)
std::string differences(const Config& of_state, const Config& config) {
  std::string all;
  for (const Key& key : config_keys()) {
    if (key.kind != KeyKind::result) continue;
    const Json there = get_key(of_state, key), here = get_key(config, key);
    if (there != here)
      all += fmt::format("{}{} is {} in the state and {} in the configuration", all.empty() ? "" : ", ",
                         key.name, there.dump(), here.dump());
  }
  return all;
}

void check_corpus(const fs::path& path, const Metadata& metadata, const std::string& corpus) {
  WEDGE_CHECK(metadata.at("corpus") == corpus,
              "{}: the run was trained on another corpus; expected the checksum {}, its is {}", path.string(),
              metadata.at("corpus"), corpus);
}

Json to_json(const RunProgress& p) {
  return {{"step", p.step},
          {"batches_done", p.batches_done},
          {"sum_of_batches", p.sum_of_batches},
          {"train_losses", p.train_losses},
          {"val_losses", p.val_losses},
          {"tokens", p.tokens},
          {"seconds", p.seconds},
          {"metrics_bytes", p.metrics_bytes}};
}

// Whoever wrote the checksum wrote this too, so that a surprise here is no damage but a foreign hand.
RunProgress progress_of(const std::string& text, const fs::path& path) {
  try {
    const Json json = parse_json(text);
    RunProgress p{json.at("step"),         json.at("batches_done"), json.at("sum_of_batches"),
                  json.at("train_losses"), json.at("val_losses"),   json.at("tokens"),
                  json.at("seconds"),      json.at("metrics_bytes")};
    WEDGE_CHECK(p.step >= 0 && p.batches_done >= 0 && p.train_losses.size() == p.val_losses.size(),
                "{}: metadata progress makes no sense", path.string());
    return p;
  } catch (const Json::exception&) {
    throw Error(fmt::format("{}: metadata progress is not what wedge writes", path.string()));
  }
}

// Opens the file and checks that its metadata has every key; does not read the tensors.
SafetensorsFile open_header(const fs::path& path) {
  SafetensorsFile file(path);
  const Metadata& metadata = file.metadata();
  for (const char* key : {"format_version", "config", "corpus", "progress", "crc32"})
    WEDGE_CHECK(metadata.contains(key), "{}: no '{}' in its metadata: not the state of a run", path.string(),
                key);
  WEDGE_CHECK(metadata.at("format_version") == kFormatVersion,
              "{}: format version '{}', this wedge goes on from {}", path.string(),
              metadata.at("format_version"), kFormatVersion);
  return file;
}

// Reads all of it.
SafetensorsFile open_state(const fs::path& path) {
  SafetensorsFile file = open_header(path);
  const Metadata& metadata = file.metadata();
  NamedBytes tensors;
  for (const auto& [name, entry] : file.entries()) tensors[name] = {entry.data, entry.bytes};
  const std::string found = checksum(metadata, tensors);
  WEDGE_CHECK(found == metadata.at("crc32"), "{}: damaged: its checksum is {}, its contents give {}",
              path.string(), metadata.at("crc32"), found);
  return file;
}

// Whether the log goes on after a finished epoch, at whose end a state was written.
bool tells_of_a_state(const fs::path& metrics) {
  if (!is_there(metrics)) return false;
  std::istringstream lines(read_file(metrics));
  bool after_epoch = false;
  for (std::string line; std::getline(lines, line);) {
    if (after_epoch) return true;
    const Json json = parse_json(line);
    after_epoch = json.is_object() && json.contains("val_loss");
  }
  return false;
}

}  // namespace

std::string fingerprint(const data::Corpus& corpus) {
  Checksum sum;
  for (const std::vector<std::int32_t>* tokens : {&corpus.train, &corpus.validation}) {
    const std::uint64_t count = tokens->size();
    sum.add(&count, sizeof count);
    sum.add(tokens->data(), count * sizeof(std::int32_t));
  }
  return fmt::format("{:08x}", sum.value());
}

void save_state(const fs::path& path, const Config& config, const std::string& corpus,
                const LanguageModel& model, const AdamW& optimizer, const RunProgress& progress) {
  const NamedParameters parameters = model.named_parameters();
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::string& name = parameters[i].first;
    const auto add = [&](const std::string& prefix, const Tensor& t) {
      tensors.emplace_back(prefix + name, t.to(Device::cpu).contiguous());
    };
    add("", parameters[i].second.value());
    add(kFirst, optimizer.first_moments()[i]);
    add(kSecond, optimizer.second_moments()[i]);
  }
  Metadata metadata = {{"format_version", kFormatVersion},
                       {"config", checkpoint_part(config)},
                       {"corpus", corpus},
                       {"progress", to_json(progress).dump()}};
  NamedBytes bytes;
  for (const auto& [name, t] : tensors)
    bytes[name] = {static_cast<const std::byte*>(t.raw()),
                   static_cast<std::size_t>(t.numel()) * size_of(t.dtype())};
  metadata["crc32"] = checksum(metadata, bytes);
  write_safetensors(path, tensors, metadata);
}

RunProgress load_state(const fs::path& path, const Config& config, const std::string& corpus,
                       LanguageModel& model, AdamW& optimizer) {
  const SafetensorsFile file = open_state(path);
  const Metadata& metadata = file.metadata();
  Config of_state;  // through the table of keys: what decides nothing, or does no more, is not compared
  update_from_json(of_state, parse_json(metadata.at("config")), path.string());
  const std::string other = differences(of_state, config);
  WEDGE_CHECK(other.empty(), "{}: the run was configured otherwise: {}", path.string(), other);
  check_corpus(path, metadata, corpus);
  RunProgress progress = progress_of(metadata.at("progress"), path);

  const NamedParameters parameters = model.named_parameters();
  const std::vector<Tensor> weights = read_like_parameters(file, parameters);
  optimizer.restore(progress.step, read_like_parameters(file, parameters, kFirst),
                    read_like_parameters(file, parameters, kSecond));
  for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].second.set_value(weights[i]);
  return progress;
}

void check_state(const fs::path& path) {
  open_state(path);
}

void check_corpus(const fs::path& path, const std::string& corpus) {
  check_corpus(path, open_header(path).metadata(), corpus);
}

std::optional<std::string> corpus_of_state(const fs::path& path) {
  try {
    return open_header(path).metadata().at("corpus");
  } catch (const Error&) {
    return {};
  }
}

std::optional<fs::path> newest_state(const RunFolder& folder) {
  std::string damage;
  for (const fs::path& path : folder.states()) {
    try {
      check_state(path);
    } catch (const Error& error) {
      if (damage.empty()) damage = error.what();
      continue;
    }
    WEDGE_CHECK(damage.empty(), "{}; to go on from the one before it: wedge train resume={}", damage,
                shell_word(path.string()));
    return path;
  }
  WEDGE_CHECK(damage.empty(), "{}; no other state of the run is in {}: remove it to start afresh", damage,
              folder.path.string());
  WEDGE_CHECK(
      !tells_of_a_state(folder.metrics()),
      "{} tells of finished epochs, but no state_STEP.safetensors is beside it to go on from; remove it "
      "to start again from step 0, or start a new run from what was learned: train.init_from={}",
      folder.metrics().string(), shell_word(folder.last().string()));
  return {};
}

}  // namespace wedge::app
