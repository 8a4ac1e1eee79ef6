#include "tensor/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <set>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "tensor/atomic_file.h"
#include "tensor/check.h"
#include "tensor/json.h"
#include "tensor/round_up.h"

namespace wedge {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors data is little endian");

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr std::string_view kMetadataKey = "__metadata__";

struct FileType {
  std::string_view name;
  unsigned bits;
  std::optional<DType> dtype;
};

constexpr FileType kFileTypes[] = {
    {"F32", 32, DType::f32}, {"F64", 64, DType::f64}, {"BF16", 16, DType::bf16}, {"I32", 32, DType::i32},
    {"I64", 64, DType::i64}, {"F16", 16, {}},         {"BOOL", 8, {}},           {"U8", 8, {}},
    {"I8", 8, {}},           {"U16", 16, {}},         {"I16", 16, {}},           {"U32", 32, {}},
    {"U64", 64, {}},         {"C64", 64, {}},         {"F8_E4M3", 8, {}},        {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},      {"F6_E2M3", 6, {}},      {"F6_E3M2", 6, {}},        {"F4", 4, {}},
};

std::string_view file_name_of(DType dtype) {
  return std::find_if(std::begin(kFileTypes), std::end(kFileTypes),
                      [&](const FileType& t) { return t.dtype == dtype; })
      ->name;
}

// Text from a file as it may stand in an error: on one line, valid UTF-8, not endless.
std::string quoted(const std::string& text) {
  constexpr std::size_t kShown = 80;
  std::string shown = json(text.substr(0, kShown)).dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() > kShown ? shown + "..." : shown;
}

// Reads one header; every complaint names the file.
class HeaderParser {
 public:
  explicit HeaderParser(const std::filesystem::path& path) : path_(path) {}

  json parse(std::string_view text) {
    // The JSON library would take a zero byte for the end of the text.
    require(text.find('\0') == text.npos, "header is not valid JSON (a zero byte at {})", text.find('\0'));
    std::vector<std::set<std::string>> keys;  // of the objects that are open
    const auto check_event = [&](int depth, json::parse_event_t event, json& value) {
      switch (event) {
        case json::parse_event_t::object_start:
          require(depth < 2, "header is nested too deeply");
          keys.emplace_back();
          break;
        case json::parse_event_t::array_start:
          require(depth < 3, "header is nested too deeply");
          break;
        case json::parse_event_t::object_end:
          keys.pop_back();
          break;
        case json::parse_event_t::key: {
          const auto& key = value.get_ref<const std::string&>();
          require(keys.back().insert(key).second, "header has the key {} twice", quoted(key));
          break;
        }
        default:
          break;
      }
      return true;
    };
    try {
      json header = json::parse(text.begin(), text.end(), check_event);
      require(header.is_object(), "header is not a JSON object");
      require(text.front() == '{', "header does not begin with a brace");
      return header;
    } catch (const json::parse_error& error) {
      throw Error(fmt::format("safetensors: {}: header is not valid JSON (near its byte {})", path_.string(),
                              error.byte));
    } catch (const json::exception&) {
      throw Error(fmt::format("safetensors: {}: header has a number out of range", path_.string()));
    }
  }

  std::map<std::string, std::string> metadata(const json& value) const {
    require(value.is_object(), "{} is not an object", kMetadataKey);
    std::map<std::string, std::string> result;
    for (const auto& [key, text] : value.items()) {
      require(text.is_string(), "{} key {} is not a string", kMetadataKey, quoted(key));
      result.emplace(key, text.get<std::string>());
    }
    return result;
  }

  SafetensorsFile::Entry entry(const std::string& name, const json& value,
                               std::span<const std::byte> data) const {
    require(value.is_object() && value.size() == 3 && value.contains("dtype") && value.contains("shape") &&
                value.contains("data_offsets"),
            "tensor {} needs exactly dtype, shape and data_offsets", quoted(name));

    const json& dtype = value["dtype"];
    require(dtype.is_string(), "tensor {}: dtype is not a string", quoted(name));
    const auto& dtype_name = dtype.get_ref<const std::string&>();
    const auto* type = std::find_if(std::begin(kFileTypes), std::end(kFileTypes),
                                    [&](const FileType& t) { return t.name == dtype_name; });
    require(type != std::end(kFileTypes), "tensor {}: unknown dtype {}", quoted(name), quoted(dtype_name));

    const json& sizes = value["shape"];
    require(sizes.is_array(), "tensor {}: shape is not a list", quoted(name));
    Shape shape;
    // Both products fit int64, so that neither sizes nor strides of the tensor can overflow later.
    std::int64_t bits = type->bits, span_bits = 64;
    for (const json& size : sizes) {
      require(
          size.is_number_unsigned() && size.get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max(),
          "tensor {}: shape has a size that is not a whole number >= 0", quoted(name));
      const auto n = size.get<std::int64_t>();
      require(!__builtin_mul_overflow(bits, n, &bits) &&
                  !__builtin_mul_overflow(span_bits, std::max<std::int64_t>(n, 1), &span_bits),
              "tensor {}: shape has too many elements", quoted(name));
      shape.push_back(n);
    }

    const json& offsets = value["data_offsets"];
    require(offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() &&
                offsets[1].is_number_unsigned(),
            "tensor {}: data_offsets are not two whole numbers >= 0", quoted(name));
    const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
    require(begin <= end && end <= data.size(),
            "tensor {}: data_offsets [{}, {}] lie outside the {} bytes of data", quoted(name), begin, end,
            data.size());
    const auto bytes = static_cast<std::uint64_t>(bits) / 8;
    require(bits % 8 == 0 && end - begin == bytes, "tensor {}: {} {} takes {} bytes, data_offsets give it {}",
            quoted(name), dtype_name, to_string(shape), ceil_div(bits, 8), end - begin);
    return {type->dtype, dtype_name, std::move(shape), data.data() + begin, static_cast<std::size_t>(bytes)};
  }

  // The tensors must cover the data from its first byte to its last, each byte once.
  void check_cover(const std::map<std::string, SafetensorsFile::Entry>& entries,
                   std::span<const std::byte> data) const {
    struct Piece {
      const std::byte *begin, *end;
      const std::string* name;
    };
    std::vector<Piece> pieces;
    pieces.reserve(entries.size());
    for (const auto& [name, entry] : entries) pieces.push_back({entry.data, entry.data + entry.bytes, &name});
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
      return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
    });
    const std::byte* covered = data.data();
    for (const Piece& piece : pieces) {
      require(piece.begin >= covered, "tensor {} overlaps another tensor", quoted(*piece.name));
      require(piece.begin == covered, "{} bytes before tensor {} belong to no tensor", piece.begin - covered,
              quoted(*piece.name));
      covered = piece.end;
    }
    require(covered == data.data() + data.size(), "{} bytes after the last tensor",
            data.data() + data.size() - covered);
  }

  template <class... Args>
  void require(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (!condition) [[unlikely]] {
      throw Error(fmt::format("safetensors: {}: {}", path_.string(),
                              fmt::format(format, std::forward<Args>(args)...)));
    }
  }

 private:
  const std::filesystem::path& path_;
};

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path) {
  HeaderParser parser(path_);
  // A pipe without a writer must be refused below, not waited for.
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  WEDGE_CHECK(fd.get() >= 0, "safetensors: {}", system_error(path, "open"));
  struct stat status {};
  WEDGE_CHECK(::fstat(fd.get(), &status) == 0, "safetensors: {}", system_error(path, "read"));
  parser.require(S_ISREG(status.st_mode), "not a regular file");
  const auto size = static_cast<std::size_t>(status.st_size);
  parser.require(size >= 8, "too short: {} bytes, a header length takes 8", size);

  void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  WEDGE_CHECK(mapped != MAP_FAILED, "safetensors: {}", system_error(path, "map"));
  mapping_ = {static_cast<const std::byte*>(mapped),
              [size](const std::byte* p) { ::munmap(const_cast<std::byte*>(p), size); }};

  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, mapped, sizeof header_bytes);
  parser.require(header_bytes <= kMaxHeaderBytes, "header length {} is over the limit of {}", header_bytes,
                 kMaxHeaderBytes);
  parser.require(header_bytes <= size - 8, "header length {} is more than the {} bytes that follow it",
                 header_bytes, size - 8);
  const std::string_view text(reinterpret_cast<const char*>(mapping_.get()) + 8, header_bytes);
  const std::span<const std::byte> data(mapping_.get() + 8 + header_bytes, size - 8 - header_bytes);

  const json header = parser.parse(text);
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadataKey) {
      metadata_ = parser.metadata(value);
    } else {
      entries_.emplace(name, parser.entry(name, value, data));
    }
  }
  parser.check_cover(entries_, data);
}

namespace {

// An IEEE half, all of whose values a float has.
float float_of_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const float size = exponent == 31  ? (mantissa == 0 ? std::numeric_limits<float>::infinity()
                                                      : std::numeric_limits<float>::quiet_NaN())
                     : exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                     : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  return bits >> 15 == 0 ? size : -size;
}

}  // namespace

const SafetensorsFile::Entry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  WEDGE_CHECK(found != entries_.end(), "safetensors: {}: no tensor {}", path_.string(), quoted(name));
  return found->second;
}

Tensor SafetensorsFile::tensor(const std::string& name) const {
  const Entry& e = entry(name);
  if (e.dtype_name == "F16") {
    Tensor result = Tensor::empty(e.shape, DType::f32);
    for (std::int64_t i = 0; i < result.numel(); ++i) {
      std::uint16_t half;
      std::memcpy(&half, e.data + i * 2, sizeof half);
      result.data<float>()[i] = float_of_half(half);
    }
    return result;
  }
  WEDGE_CHECK(e.dtype.has_value(), "safetensors: {}: tensor {} is of type {}, which wedge does not have",
              path_.string(), quoted(name), e.dtype_name);
  Tensor result = Tensor::empty(e.shape, *e.dtype);
  if (e.bytes > 0) std::memcpy(result.raw(), e.data, e.bytes);
  return result;
}

void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::set<std::string_view> names;
  std::vector<std::pair<std::string_view, Tensor>> pieces;
  for (const auto& [name, tensor] : tensors) {
    WEDGE_CHECK(name != kMetadataKey && names.insert(name).second,
                "write_safetensors: {}: tensor name {} is reserved or given twice", path.string(),
                quoted(name));
    WEDGE_CHECK(tensor.defined() && tensor.device() == Device::cpu,
                "write_safetensors: {}: tensor {} must be defined and on the CPU", path.string(),
                quoted(name));
    pieces.emplace_back(name, tensor.contiguous());
  }
  std::stable_sort(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) {
    return size_of(a.second.dtype()) > size_of(b.second.dtype());
  });

  const auto bytes_of = [](const Tensor& t) {
    return static_cast<std::size_t>(t.numel()) * size_of(t.dtype());
  };
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadataKey)] = metadata;
  std::size_t end = 0;
  for (const auto& [name, tensor] : pieces) {
    const std::size_t begin = std::exchange(end, end + bytes_of(tensor));
    header[std::string(name)] = {
        {"dtype", file_name_of(tensor.dtype())}, {"shape", tensor.shape()}, {"data_offsets", {begin, end}}};
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    throw Error(fmt::format("write_safetensors: {}: a name or metadata text is not UTF-8", path.string()));
  }
  text.resize(round_up(text.size(), 8), ' ');
  WEDGE_CHECK(text.size() <= kMaxHeaderBytes, "write_safetensors: {}: header takes {} bytes, the limit is {}",
              path.string(), text.size(), kMaxHeaderBytes);

  AtomicFile file(path);
  const std::uint64_t header_bytes = text.size();
  file.write(&header_bytes, sizeof header_bytes);
  file.write(text.data(), text.size());
  for (const auto& [name, tensor] : pieces) file.write(tensor.raw(), bytes_of(tensor));
  file.commit();
}

}  // namespace wedge
