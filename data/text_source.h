// Text files, one row a line, and rows turned into one stream of tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/wordpiece.h"

namespace wedge::data {

// The rows of a text file: its lines, ended by \n only and returned without it; a last line needs no \n.
// Reads no further than `max_rows` rows where that is given. Throws wedge::Error, with the path, if the file
// cannot be read or `max_rows` is negative. Content is not checked: encode_rows() does that.
std::vector<std::string> read_text_rows(const std::filesystem::path& path, std::optional<int64_t> max_rows);

// The ids of the rows joined with "\n\n", without special tokens. A row boundary is whitespace and so ends a
// word: rows are encoded in parallel, and the result does not depend on the number of threads. Throws
// wedge::Error that names the first row (from 1) with invalid UTF-8 and the byte offset in it.
std::vector<int32_t> encode_rows(const WordPiece& tokenizer, const std::vector<std::string>& rows);

}  // namespace wedge::data
