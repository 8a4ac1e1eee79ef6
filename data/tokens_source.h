// A corpus that somebody else has cut into tokens: one safetensors file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "data/split.h"

namespace wedge::data {

struct TokenFile {
  std::int64_t vocab_size = 0;
  std::vector<std::int32_t> train, validation, test;
};

// Reads the splits that are wanted from `path`: int32 vectors `train`, `validation` and `test`, and the
// metadata `vocab_size`, a whole number from 1 to 2^31 - 1. Splits that are not wanted need not be there.
// Throws wedge::Error, one line with the path, when the file is malformed, a wanted vector is missing or no
// int32 vector, or an id lies outside [0, vocab_size) (the error names its position).
TokenFile read_token_file(const std::filesystem::path& path, const std::vector<Split>& wanted);

}  // namespace wedge::data
