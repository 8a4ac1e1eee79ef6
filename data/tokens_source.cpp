#include "data/tokens_source.h"

#include <charconv>
#include <cstring>
#include <limits>
#include <string>

#include "tensor/check.h"
#include "tensor/safetensors.h"

namespace wedge::data {
namespace {

std::int64_t read_vocab_size(const SafetensorsFile& file) {
  const auto found = file.metadata().find("vocab_size");
  WEDGE_CHECK(found != file.metadata().end(), "tokens: {}: the metadata has no vocab_size",
              file.path().string());
  const std::string& text = found->second;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  WEDGE_CHECK(error == std::errc() && end == text.data() + text.size() && value >= 1 &&
                  value <= std::numeric_limits<std::int32_t>::max(),
              "tokens: {}: the metadata's vocab_size is not a whole number from 1 to 2^31 - 1",
              file.path().string());
  return value;
}

std::vector<std::int32_t> read_split(const SafetensorsFile& file, Split split, std::int64_t vocab_size) {
  const std::string name(name_of(split));
  const auto& entry = file.entry(name);
  WEDGE_CHECK(entry.dtype == DType::i32 && entry.shape.size() == 1,
              "tokens: {}: {} must be a vector of I32, is {} {}", file.path().string(), name,
              entry.dtype_name, to_string(entry.shape));
  std::vector<std::int32_t> ids(static_cast<std::size_t>(entry.shape[0]));
  if (!ids.empty()) std::memcpy(ids.data(), entry.data, entry.bytes);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    WEDGE_CHECK(ids[i] >= 0 && ids[i] < vocab_size, "tokens: {}: {}[{}] is {}, outside [0, {})",
                file.path().string(), name, i, ids[i], vocab_size);
  }
  return ids;
}

}  // namespace

TokenFile read_token_file(const std::filesystem::path& path, const std::vector<Split>& wanted) {
  const SafetensorsFile file(path);
  TokenFile result;
  result.vocab_size = read_vocab_size(file);
  for (const Split split : wanted) {
    auto& ids = split == Split::train        ? result.train
                : split == Split::validation ? result.validation
                                             : result.test;
    ids = read_split(file, split, result.vocab_size);
  }
  return result;
}

}  // namespace wedge::data
