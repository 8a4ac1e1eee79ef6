// Small files: whole reads, and writes that happen at once or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "tensor/atomic_file.h"

namespace wedge::app {

// Throws wedge::Error naming the path and the cause.
std::string read_file(const std::filesystem::path& path);

// Replaces what is at `path` by `text`, at once or not at all, as AtomicFile does. Throws wedge::Error as it
// does; `path` is then as it was.
void write_file(const std::filesystem::path& path, std::string_view text);

// A log that grows by whole lines. One process at a time: the file is locked while it is open.
class LineLog {
 public:
  // Opens the file, made if need be, and leaves what is in it. Throws wedge::Error when it cannot be written,
  // is no regular file, or another process has it open.
  explicit LineLog(const std::filesystem::path& path);

  // Appends `line` and a line end. Throws wedge::Error when the disk does not take it.
  void append(std::string_view line);

  // Cuts off what follows the first `bytes` bytes. Throws wedge::Error, also where there are fewer.
  void truncate(std::uint64_t bytes);

  // Waits until all lines are on the disk, and returns how many bytes they are. Throws wedge::Error.
  std::uint64_t sync();

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
};

}  // namespace wedge::app
