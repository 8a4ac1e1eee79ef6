// Safetensors files: named tensors behind a JSON header. Format: 8 bytes of header length (little endian),
// the header
//   {"name": {"dtype", "shape", "data_offsets": [begin, end)}, ..., "__metadata__": {string: string}}
// and the data, which the tensors cover without holes or overlap. Source: the format section of the
// safetensors project's README.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tensor/tensor.h"

namespace wedge {

// A file that is open for reading, mapped into memory; nothing is copied before it is asked for. The file
// must not be shortened while it is open (write_safetensors never does: it replaces).
class SafetensorsFile {
 public:
  struct Entry {
    std::optional<DType> dtype;  // none for a type that wedge has no tensors of, such as F16 or BOOL
    std::string dtype_name;      // as the file spells it: "F32"
    Shape shape;
    const std::byte* data;  // inside the mapping, at any alignment: the format asks for none
    std::size_t bytes;
  };

  // Maps and checks the whole header. Throws wedge::Error, one line with the path and the cause, when the
  // file cannot be read or breaks the format in any way: afterwards every entry lies inside the file and fits
  // its shape and type.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::map<std::string, Entry>& entries() const { return entries_; }
  bool contains(const std::string& name) const { return entries_.contains(name); }
  // Throws wedge::Error naming file and tensor when there is none.
  const Entry& entry(const std::string& name) const;
  // A copy in CPU memory, F16 as float32. Throws wedge::Error as entry does, and for other types that wedge
  // does not have.
  Tensor tensor(const std::string& name) const;

 private:
  std::filesystem::path path_;
  std::shared_ptr<const std::byte> mapping_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, Entry> entries_;
};

// Writes `tensors` (on the CPU, names distinct) and `metadata` to `path`, replacing what is there at once or
// not at all, as AtomicFile does. Equal arguments give equal bytes. The data starts at a multiple of 8 and
// wider types come first, so that every tensor is aligned. Throws wedge::Error when an argument does not fit
// or the system refuses; the temporary file is then gone and `path` as it was.
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace wedge
