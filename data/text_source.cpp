#include "data/text_source.h"

#include <omp.h>

#include <exception>
#include <fstream>

#include "data/unicode.h"
#include "tensor/check.h"

namespace wedge::data {

std::vector<std::string> read_text_rows(const std::filesystem::path& path, std::optional<int64_t> max_rows) {
  WEDGE_CHECK(!max_rows || *max_rows >= 0, "{}: expected 0 rows or more, got {}", path.string(), *max_rows);
  std::ifstream file(path, std::ios::binary);
  WEDGE_CHECK(file && !std::filesystem::is_directory(path), "{}: cannot read the file", path.string());
  std::vector<std::string> rows;
  std::string line;
  while ((!max_rows || static_cast<int64_t>(rows.size()) < *max_rows) && std::getline(file, line)) {
    rows.push_back(line);
  }
  WEDGE_CHECK(!file.bad(), "{}: reading failed", path.string());
  return rows;
}

std::vector<int32_t> encode_rows(const WordPiece& tokenizer, const std::vector<std::string>& rows) {
  const auto n = static_cast<int64_t>(rows.size());
  std::vector<std::vector<int32_t>> parts(static_cast<size_t>(omp_get_max_threads()));
  int64_t bad_row = n;
  std::exception_ptr other_error;  // one that is no row's fault, such as std::bad_alloc
  // A static schedule gives thread k the k-th stretch of rows, so the parts are in order.
#pragma omp parallel for schedule(static) reduction(min : bad_row)
  for (int64_t row = 0; row < n; ++row) {
    try {
      tokenizer.encode(rows[row], parts[static_cast<size_t>(omp_get_thread_num())]);
    } catch (const Error&) {
      bad_row = std::min(bad_row, row);
    } catch (...) {  // must not leave the loop by itself
#pragma omp critical(wedge_encode_rows_error)
      if (!other_error) other_error = std::current_exception();
    }
  }
  if (other_error) std::rethrow_exception(other_error);
  if (bad_row < n) {
    throw Error(fmt::format("row {}: invalid UTF-8 at byte offset {}", bad_row + 1,
                            find_invalid_utf8(rows[bad_row]).value_or(0)));
  }
  size_t total = 0;
  for (const auto& part : parts) total += part.size();
  std::vector<int32_t> ids;
  ids.reserve(total);
  for (const auto& part : parts) ids.insert(ids.end(), part.begin(), part.end());
  return ids;
}

}  // namespace wedge::data
