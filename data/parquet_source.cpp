// Stands on Parquet's column reader, not on Arrow's tables: one string column needs no more, and that
// interface has stayed the same over many Arrow versions.
#include "data/parquet_source.h"

#include "tensor/check.h"

#ifdef WEDGE_WITH_PARQUET

#include <parquet/api/reader.h>

#include <algorithm>
#include <array>
#include <exception>

namespace wedge::data {

namespace {

constexpr int64_t kBatchRows = 1024;

// Index of the column `text`; throws wedge::Error unless it is one string a row.
int find_text_column(const parquet::SchemaDescriptor& schema) {
  int index = schema.ColumnIndex("text");
  WEDGE_CHECK(index >= 0, "no column 'text'{}",
              schema.num_columns() > 0
                  ? fmt::format("; the first is '{}'", schema.Column(0)->path()->ToDotString())
                  : std::string());
  const parquet::ColumnDescriptor& column = *schema.Column(index);
  bool is_string = column.physical_type() == parquet::Type::BYTE_ARRAY && column.logical_type() != nullptr &&
                   column.logical_type()->is_string();
  WEDGE_CHECK(is_string && column.max_repetition_level() == 0, "column 'text' must hold one string a row");
  return index;
}

// Appends `count` values of one column chunk to `rows`.
void read_values(parquet::ByteArrayReader& reader, int64_t count, std::vector<std::string>& rows) {
  std::array<parquet::ByteArray, kBatchRows> values;
  std::array<int16_t, kBatchRows> definition_levels;
  while (count > 0) {
    int64_t values_read = 0;
    int64_t levels_read = reader.ReadBatch(std::min(count, kBatchRows), definition_levels.data(), nullptr,
                                           values.data(), &values_read);
    WEDGE_CHECK(levels_read > 0, "ends after {} rows", rows.size());
    if (values_read < levels_read) {
      auto null = std::find_if(definition_levels.begin(), definition_levels.begin() + levels_read,
                               [&](int16_t level) { return level < reader.descr()->max_definition_level(); });
      throw Error(fmt::format("row {} is null", rows.size() + (null - definition_levels.begin()) + 1));
    }
    for (int64_t i = 0; i < values_read; ++i) {
      rows.emplace_back(reinterpret_cast<const char*>(values[i].ptr), values[i].len);
    }
    count -= levels_read;
  }
}

std::vector<std::string> read_rows(const std::string& path, std::optional<int64_t> max_rows) {
  std::unique_ptr<parquet::ParquetFileReader> file = parquet::ParquetFileReader::OpenFile(path);
  const parquet::FileMetaData& metadata = *file->metadata();
  const int column = find_text_column(*metadata.schema());
  std::vector<std::string> rows;
  int64_t wanted = max_rows.value_or(metadata.num_rows());
  for (int group = 0; group < metadata.num_row_groups() && wanted > 0; ++group) {
    int64_t count = std::min(wanted, metadata.RowGroup(group)->num_rows());
    WEDGE_CHECK(count >= 0, "damaged: row group {} of {} rows", group, count);
    std::shared_ptr<parquet::ColumnReader> reader = file->RowGroup(group)->Column(column);
    read_values(static_cast<parquet::ByteArrayReader&>(*reader), count, rows);
    wanted -= count;
  }
  WEDGE_CHECK(max_rows || wanted == 0, "damaged: {} rows announced, {} found", metadata.num_rows(),
              rows.size());
  return rows;
}

}  // namespace

bool parquet_available() {
  return true;
}

std::vector<std::string> read_parquet_rows(const std::filesystem::path& path,
                                           std::optional<int64_t> max_rows) {
  WEDGE_CHECK(!max_rows || *max_rows >= 0, "{}: expected 0 rows or more, got {}", path.string(), *max_rows);
  try {
    return read_rows(path.string(), max_rows);
  } catch (const std::exception& error) {
    std::string reason = error.what();
    std::replace_if(
        reason.begin(), reason.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
    throw Error(fmt::format("{}: Parquet: {}", path.string(), reason));
  }
}

}  // namespace wedge::data

#else

namespace wedge::data {

bool parquet_available() {
  return false;
}

std::vector<std::string> read_parquet_rows(const std::filesystem::path& path, std::optional<int64_t>) {
  throw Error(
      fmt::format("{}: this build of wedge reads no Parquet; install Apache Arrow C++ or `pip install "
                  "pyarrow`, then configure "
                  "again with -DWEDGE_PARQUET=ON; or use data=text or data=builtin",
                  path.string()));
}

}  // namespace wedge::data

#endif
