// Rows of text from Parquet files, the layout in which WikiText-2 is published.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace wedge::data {

// Whether this build reads Parquet. It does where Apache Arrow C++ was found when it was configured
// (WEDGE_PARQUET).
bool parquet_available();

// The rows of the string (or large_string) column `text`, as they are stored; other columns are ignored.
// Reads no further than `max_rows` rows where that is given. Throws wedge::Error, with the path, if this
// build has no Parquet; if the file cannot be read, is cut short or damaged; if there is no such column or it
// holds a null (the message names the row, from 1); if `max_rows` is negative.
std::vector<std::string> read_parquet_rows(const std::filesystem::path& path,
                                           std::optional<int64_t> max_rows);

}  // namespace wedge::data
