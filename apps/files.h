// Small files: whole reads, and writes that happen at once or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/atomic_file.h"

namespace wedge::app {

// Throws wedge::Error for a path that begins with a ~ which the shell was to replace: it does so at the
// beginning of a word, and after the = of some.
void check_expanded(std::string_view name, std::string_view path);

// Whether anything has this name, be it a link that leads nowhere: to be named when it is read.
bool is_there(const std::filesystem::path& path);

// Throws wedge::Error naming the path and the cause; what is no regular file, or larger than `at_most` bytes,
// is refused.
std::string read_file(const std::filesystem::path& path, std::uint64_t at_most = UINT64_MAX);
// No config.json, results.json or multirun.json is so large.
inline constexpr std::uint64_t kMostOfJson = 64 << 20;

// Replaces what is at `path` by `text`, at once or not at all, as AtomicFile does; of a link, what it leads
// to. Throws wedge::Error as it does, and for a link that leads nowhere; what was there is then as it was.
// What can't be replaced is written to, after what was printed: a pipe, a device, and an open stream, as
// /dev/fd/N or any name of standard output or error means one.
void write_file(const std::filesystem::path& path, std::string_view text);

// The same of several, none of which is replaced before all are written.
void write_files(const std::vector<std::pair<std::filesystem::path, std::string>>& files);

// Makes a file that nobody else has made. Throws wedge::Error when something is there or the system refuses.
void write_new_file(const std::filesystem::path& path, std::string_view text);

// While it lives, no other process has one of the same folder: it waits until that one is gone. Where the file
// system knows no locks of folders, as some that are mounted from elsewhere, it holds nobody up.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder);

 private:
  FileDescriptor folder_;
};

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
