#include "data/parquet_source.h"

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace wedge;
  const auto path = fuzz::as_file({reinterpret_cast<const char*>(data), size});
  fuzz::allowed([&] {
    for (const std::string& row : data::read_parquet_rows(path, {})) fuzz::read_all(row.data(), row.size());
  });
  fuzz::allowed(
      [&] { fuzz::require(data::read_parquet_rows(path, 1).size() <= 1, "more rows than were asked for"); });
  return 0;
}
