#include "tensor/safetensors.h"

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>

#include "tests/support/catch.h"
#include "tests/support/files.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using Catch::Matchers::ContainsSubstring;
using namespace wedge::test;
namespace fs = std::filesystem;

namespace {

std::string with_length(std::uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}

std::string file_of(const std::string& header, std::size_t data_bytes) {
  return with_length(header.size(), header + std::string(data_bytes, '\1'));
}

std::string error_of(const fs::path& path) {
  try {
    SafetensorsFile file(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), {}));
}

const std::vector<std::pair<std::string, Tensor>>& sample() {
  static const std::vector<std::pair<std::string, Tensor>> tensors = {
      {"half", Tensor::from(std::vector<BFloat16>{BFloat16(1.5f), BFloat16(-2.0f), BFloat16(3.0f)}, {3})},
      {"weight", Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3})},
      {"wide", Tensor::from(std::vector<double>{0.1, -0.0}, {2, 1})},
      {"ids", Tensor::from(std::vector<std::int32_t>{-1, 7, std::numeric_limits<std::int32_t>::min()}, {3})},
      {"long", Tensor::from(std::vector<std::int64_t>{std::int64_t{1} << 60}, {})},
      {"none", Tensor::empty({0, 4})},
      {"turned", Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3}).transpose(0, 1)},
  };
  return tensors;
}

}  // namespace

TEST_CASE("safetensors: what is written is read back", "[safetensors]") {
  TempDir dir;
  const std::map<std::string, std::string> metadata = {
      {"config", "{\"a\": 1}\n"}, {"vocabulary", "é\"\\\t"}, {"", ""}};
  write_safetensors(dir / "a.safetensors", sample(), metadata);
  CHECK(files_in(dir.path()) == 1);

  SafetensorsFile file(dir / "a.safetensors");
  CHECK(file.metadata() == metadata);
  REQUIRE(file.entries().size() == sample().size());
  for (const auto& [name, tensor] : sample()) {
    INFO(name);
    const auto& entry = file.entry(name);
    CHECK(entry.dtype == tensor.dtype());
    CHECK(reinterpret_cast<std::uintptr_t>(entry.data) % size_of(tensor.dtype()) == 0);
    const Tensor back = file.tensor(name);
    CHECK(back.shape() == tensor.shape());
    CHECK(back.dtype() == tensor.dtype());
    CHECK(back.to_vector() == tensor.to_vector());
  }
  CHECK(std::signbit(file.tensor("wide").to_vector()[1]));
  CHECK(file.tensor("turned").to_vector() == std::vector<double>{1, 4, 2, 5, 3, 6});
  CHECK_FALSE(file.contains("bias"));
  CHECK_THROWS_WITH(file.tensor("bias"),
                    ContainsSubstring("a.safetensors") && ContainsSubstring("no tensor \"bias\""));
}

TEST_CASE("safetensors: the bytes of a small file", "[safetensors]") {
  TempDir dir;
  write_safetensors(dir / "a.safetensors", {{"x", Tensor::from(std::vector<std::int32_t>{1, 2}, {2})}},
                    {{"k", "v"}});
  const std::string header =
      R"({"__metadata__":{"k":"v"},"x":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}})";
  const std::string padding((8 - header.size() % 8) % 8, ' ');
  CHECK(slurp(dir / "a.safetensors") ==
        with_length(header.size() + padding.size(), header + padding) + std::string("\1\0\0\0\2\0\0\0", 8));
}

TEST_CASE("safetensors: equal calls give equal bytes, and replace the file", "[safetensors]") {
  TempDir dir;
  spill(dir / "b.safetensors", "old");
  for (const char* name : {"a.safetensors", "b.safetensors"})
    write_safetensors(dir / name, sample(), {{"k", "v"}});
  CHECK(slurp(dir / "a.safetensors") == slurp(dir / "b.safetensors"));
  CHECK(files_in(dir.path()) == 2);
}

TEST_CASE("safetensors: an open file outlives its replacement", "[safetensors]") {
  TempDir dir;
  const auto path = dir / "a.safetensors";
  write_safetensors(path, {{"x", Tensor::full({4}, 1)}});
  SafetensorsFile file(path);
  write_safetensors(path, {{"x", Tensor::full({4}, 2)}});
  CHECK(file.tensor("x").to_vector() == std::vector<double>(4, 1.0));
  CHECK(SafetensorsFile(path).tensor("x").to_vector() == std::vector<double>(4, 2.0));
}

TEST_CASE("safetensors: a failed write leaves everything as it was", "[safetensors]") {
  TempDir dir;
  const auto path = dir / "a.safetensors";
  spill(path, "old");
  const Tensor x = Tensor::full({1}, 1);
  CHECK_THROWS_WITH(write_safetensors(path, {{"x", x}, {"x", x}}), ContainsSubstring("given twice"));
  CHECK_THROWS_WITH(write_safetensors(path, {{"__metadata__", x}}), ContainsSubstring("reserved"));
  CHECK_THROWS_WITH(write_safetensors(path, {{"x", Tensor()}}), ContainsSubstring("defined"));
  CHECK_THROWS_WITH(write_safetensors(path, {{"x", x}}, {{"k", "\xff"}}), ContainsSubstring("UTF-8"));
  CHECK(slurp(path) == "old");
  CHECK(files_in(dir.path()) == 1);

  fs::create_directory(dir / "folder");
  CHECK_THROWS_WITH(write_safetensors(dir / "folder", {{"x", x}}), ContainsSubstring("not a regular file"));
  CHECK_THROWS_WITH(write_safetensors(dir / "missing" / "a.safetensors", {{"x", x}}),
                    ContainsSubstring("cannot create"));
  CHECK_THROWS_WITH(write_safetensors(path / "a.safetensors", {{"x", x}}),
                    ContainsSubstring("cannot create"));
  CHECK(files_in(dir.path()) == 2);
}

TEST_CASE("safetensors: a write that the system breaks off", "[safetensors]") {
  TempDir dir;
  const auto path = dir / "a.safetensors";
  spill(path, "old");
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string error = "no error";
  try {
    write_safetensors(path, {{"x", Tensor::full({1000}, 1)}});
  } catch (const Error& caught) {
    error = caught.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(error, ContainsSubstring("a.safetensors: cannot write: File too large"));
  CHECK(slurp(path) == "old");
  CHECK(files_in(dir.path()) == 1);
}

TEST_CASE("safetensors: types that wedge does not have are listed, and refused only when asked for",
          "[safetensors]") {
  TempDir dir;
  const auto path = dir / "a.safetensors";
  spill(path, file_of(R"({"causal_mask":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]},)"
                      R"("h":{"dtype":"F16","shape":[2],"data_offsets":[3,7]},)"
                      R"("q":{"dtype":"F4","shape":[2],"data_offsets":[7,8]},)"
                      R"("w":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                      12));
  SafetensorsFile file(path);
  CHECK(file.entries().size() == 4);
  CHECK_FALSE(file.entry("causal_mask").dtype.has_value());
  CHECK(file.entry("causal_mask").bytes == 3);
  CHECK(file.entry("h").shape == Shape{2});
  CHECK_THROWS_WITH(file.tensor("q"), ContainsSubstring("a.safetensors") && ContainsSubstring("\"q\"") &&
                                          ContainsSubstring("F4"));
  CHECK(file.tensor("w").numel() == 1);
}

TEST_CASE("safetensors: half precision is read as float32", "[safetensors]") {
  TempDir dir;
  const auto path = dir / "a.safetensors";
  // 1, -2, 65504, the smallest and the largest subnormal number, -0, infinity, NaN, a third
  const std::uint16_t halves[] = {0x3c00, 0xc000, 0x7bff, 0x0001, 0x03ff, 0x8000, 0xfc00, 0x7e00, 0x3555};
  std::string bytes = file_of(R"({"h":{"dtype":"F16","shape":[3,3],"data_offsets":[0,18]}})", 18);
  std::memcpy(bytes.data() + bytes.size() - sizeof halves, halves, sizeof halves);
  spill(path, bytes);
  const Tensor h = SafetensorsFile(path).tensor("h");
  CHECK(h.dtype() == DType::f32);
  CHECK(h.shape() == Shape{3, 3});
  const auto values = h.to_vector();
  const std::vector<double> expected = {1, -2, 65504, 0x1p-24, 1023 * 0x1p-24, 0, -HUGE_VAL};
  CHECK(std::vector<double>(values.begin(), values.begin() + 7) == expected);
  CHECK(std::signbit(values[5]));
  CHECK(std::isnan(values[7]));
  CHECK(values[8] == 0.333251953125);
}

TEST_CASE("safetensors: legal oddities", "[safetensors]") {
  TempDir dir;
  const auto path = dir / "a.safetensors";
  SECTION("no tensors") {
    spill(path, file_of("{}", 0));
    CHECK(SafetensorsFile(path).entries().empty());
    write_safetensors(path, {});
    CHECK(SafetensorsFile(path).entries().empty());
  }
  SECTION("empty tensors between others, in any order, unaligned data") {
    spill(path, file_of(R"({"b":{"dtype":"I32","shape":[1],"data_offsets":[1,5]},)"
                        R"("e":{"shape":[0,9],"dtype":"F64","data_offsets":[1,1]},)"
                        R"("a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}   )",
                        5));
    SafetensorsFile file(path);
    CHECK(file.tensor("b").to_vector() == std::vector<double>{0x01010101});
    CHECK(file.tensor("e").shape() == Shape{0, 9});
    CHECK(file.entry("a").shape.empty());
  }
}

TEST_CASE("safetensors: every malformed file is one clear line", "[safetensors]") {
  TempDir dir;
  const auto path = dir / "bad.safetensors";
  const auto one = [](const std::string& fields) { return "{\"x\":{" + fields + "}}"; };
  const std::string good = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  const std::string two_of =
      R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"y":{"dtype":"F32","shape":[1],)";
  struct Case {
    std::string bytes, cause;
  };
  const std::vector<Case> cases = {
      {"", "too short"},
      {"1234567", "too short"},
      {with_length(0, ""), "not valid JSON"},
      {with_length(3, "{}"), "more than the 2 bytes"},
      {with_length(100'000'001, "{}"), "over the limit"},
      {with_length(~std::uint64_t{0}, "{}"), "over the limit"},
      {file_of("", 8), "not valid JSON"},
      {file_of("{\"x\":", 0), "not valid JSON"},
      {file_of("{} {}", 0), "not valid JSON"},
      {file_of("{\"\xff\":{}}", 0), "not valid JSON"},
      {file_of(std::string("{}\0", 3), 0), "not valid JSON"},
      {file_of("[]", 0), "not a JSON object"},
      {file_of("1", 0), "not a JSON object"},
      {file_of(" {}", 0), "does not begin with a brace"},
      {file_of("\xef\xbb\xbf{}", 0), "does not begin with a brace"},
      {file_of(std::string(100'000, '['), 0), "nested too deeply"},
      {file_of(R"({"x":{"y":{}}})", 0), "nested too deeply"},
      {file_of("{\"x\":{" + good + "},\"x\":{" + good + "}}", 8), "key \"x\" twice"},
      {file_of(one(good + R"(,"dtype":"F32")"), 8), "key \"dtype\" twice"},
      {file_of(R"({"__metadata__":{"k":"1","k":"1"}})", 0), "key \"k\" twice"},
      {file_of(R"({"__metadata__":[]})", 0), "not an object"},
      {file_of(R"({"__metadata__":{"k":1}})", 0), "\"k\" is not a string"},
      {file_of(R"({"x":1})", 0), "needs exactly"},
      {file_of(one(R"("dtype":"F32","shape":[2])"), 8), "needs exactly"},
      {file_of(one(good + R"(,"more":1)"), 8), "needs exactly"},
      {file_of(one(R"("dtype":4,"shape":[2],"data_offsets":[0,8])"), 8), "dtype is not a string"},
      {file_of(one(R"("dtype":"float\n","shape":[2],"data_offsets":[0,8])"), 8),
       R"(unknown dtype "float\n")"},
      {file_of(one(R"("dtype":"F32","shape":2,"data_offsets":[0,8])"), 8), "shape is not a list"},
      {file_of(one(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), 8), "not a whole number"},
      {file_of(one(R"("dtype":"F32","shape":[2.0],"data_offsets":[0,8])"), 8), "not a whole number"},
      {file_of(one(R"("dtype":"F32","shape":["2"],"data_offsets":[0,8])"), 8), "not a whole number"},
      {file_of(one(R"("dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8])"), 8),
       "not a whole number"},
      {file_of(one(R"("dtype":"F32","shape":[1e999],"data_offsets":[0,8])"), 8), "number out of range"},
      {file_of(one(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])"), 0),
       "too many elements"},
      {file_of(one(R"("dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0])"), 0),
       "too many elements"},
      {file_of(one(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), 8), "not two whole numbers"},
      {file_of(one(R"("dtype":"F32","shape":[2],"data_offsets":[-8,0])"), 8), "not two whole numbers"},
      {file_of(one(R"("dtype":"F32","shape":[2],"data_offsets":[0.0,8])"), 8), "not two whole numbers"},
      {file_of(one(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), 8), "lie outside"},
      {file_of(one(good), 7), "lie outside the 7 bytes"},
      {file_of(one(R"("dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551615])"),
               8),
       "lie outside"},
      {file_of(one(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), 8),
       "takes 12 bytes, data_offsets give it 8"},
      {file_of(one(R"("dtype":"F4","shape":[1],"data_offsets":[0,0])"), 0), "takes 1 bytes"},
      {file_of(one(good), 9), "1 bytes after the last tensor"},
      {file_of("{}", 3), "3 bytes after the last tensor"},
      {file_of(two_of + R"("data_offsets":[8,12]}})", 12), "4 bytes before tensor \"y\""},
      {file_of(two_of + R"("data_offsets":[2,6]}})", 6), "tensor \"y\" overlaps"},
      {file_of(two_of + R"("data_offsets":[0,4]}})", 4), "overlaps"},
  };
  for (const auto& [bytes, cause] : cases) {
    INFO(bytes.substr(0, 200));
    spill(path, bytes);
    const std::string error = error_of(path);
    CHECK_THAT(error, ContainsSubstring(path.string()) && ContainsSubstring(cause));
    CHECK_THAT(error, !ContainsSubstring("\n"));
    CHECK(error.size() < path.string().size() + 200);
  }
}

TEST_CASE("safetensors: any cut and any changed byte is an error or a file that still holds together",
          "[safetensors]") {
  TempDir dir;
  const auto path = dir / "a.safetensors";
  write_safetensors(path, sample(), {{"k", "v"}});
  const std::string good = slurp(path);
  for (std::size_t n = 0; n < good.size(); ++n) {
    spill(path, good.substr(0, n));
    CHECK(error_of(path) != "no error");
  }
  std::size_t refused = 0;
  for (std::size_t n = 0; n < good.size(); ++n) {
    for (const int flip : {1, 4, 0x40, 0x80}) {
      std::string bytes = good;
      bytes[n] = static_cast<char>(bytes[n] ^ flip);
      spill(path, bytes);
      try {
        SafetensorsFile file(path);
        for (const auto& [name, entry] : file.entries()) {
          if (entry.dtype) CHECK(file.tensor(name).shape() == entry.shape);
        }
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  CHECK(refused > good.size());
}

TEST_CASE("safetensors: paths that are no files", "[safetensors]") {
  TempDir dir;
  CHECK_THAT(error_of(dir / "none"), ContainsSubstring("none: cannot open: No such file"));
  CHECK_THAT(error_of(dir.path()), ContainsSubstring("not a regular file"));
}
