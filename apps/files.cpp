#include "apps/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <deque>
#include <memory>
#include <optional>

#include "apps/console.h"
#include "tensor/atomic_file.h"
#include "tensor/check.h"

namespace wedge::app {

namespace {

// The open stream that `path` means: N of /dev/fd/N, or standard output or error by any name of theirs, which
// may be a regular file that others write to through the same stream.
std::optional<int> descriptor_of(const std::filesystem::path& path) {
  struct stat at_path {};
  struct stat open {};
  if (::stat(path.c_str(), &at_path) == 0)
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO})
      if (::fstat(fd, &open) == 0 && at_path.st_dev == open.st_dev && at_path.st_ino == open.st_ino)
        return fd;
  const std::filesystem::path folder = path.parent_path();
  if (folder != "/dev/fd" && folder != "/proc/self/fd") return {};
  const std::string name = path.filename().string();
  int number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  return error == std::errc() && end == name.data() + name.size() ? std::optional(number) : std::nullopt;
}

// Where `path` is written to and not replaced: open for that.
std::unique_ptr<FileDescriptor> open_stream(const std::filesystem::path& path) {
  int fd = -1;
  struct stat info {};
  if (const auto number = descriptor_of(path)) {
    flush_output();
    fd = ::fcntl(*number, F_DUPFD_CLOEXEC, 0);
  } else if (::stat(path.c_str(), &info) != 0 || S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) {
    return nullptr;
  } else {
    // A pipe that nobody reads is not waited for, one that is read is.
    fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0) ::fcntl(fd, F_SETFL, 0);
  }
  WEDGE_CHECK(fd >= 0, "{}", system_error(path, "write"));
  return std::make_unique<FileDescriptor>(fd);
}

// Of a link, what it leads to is replaced.
std::filesystem::path target_of(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_symlink(path, error)) return path;
  const std::filesystem::path target = std::filesystem::canonical(path, error);
  WEDGE_CHECK(!target.empty(), "{}: cannot write: a link that leads nowhere", path.string());
  return target;
}

}  // namespace

void check_expanded(std::string_view name, std::string_view path) {
  if (!path.starts_with("~")) return;
  const std::size_t user = std::min(path.find('/'), path.size()) - 1;  // characters of a name after the ~
  const std::string instead =
      user == 0 ? fmt::format("$HOME{}", path.substr(1))
                : fmt::format("that folder in full, or ./{} for a name that begins so", path);
  throw Error(fmt::format("{}: expected a path, got {}, whose ~ the shell has not replaced; write {}", name,
                          path, instead));
}

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

std::string read_file(const std::filesystem::path& path, std::uint64_t at_most) {
  // Not blocking: a pipe that nobody writes to would be waited for.
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  WEDGE_CHECK(file.get() >= 0, "{}", system_error(path, "read"));
  struct stat info {};
  WEDGE_CHECK(::fstat(file.get(), &info) == 0 && S_ISREG(info.st_mode),
              "{}: cannot read: it is not a regular file", path.string());
  const auto size = static_cast<std::uint64_t>(info.st_size);
  WEDGE_CHECK(size <= at_most, "{}: expected at most {} bytes, it has {}", path.string(), at_most, size);
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(file.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    WEDGE_CHECK(n >= 0, "{}", system_error(path, "read"));
    if (n == 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
  }
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  write_files({{path, std::string(text)}});
}

void write_files(const std::vector<std::pair<std::filesystem::path, std::string>>& files) {
  std::deque<AtomicFile> replaced;
  for (const auto& [path, text] : files) {
    if (const auto stream = open_stream(path))
      write_all(*stream, text.data(), text.size(), path);
    else
      replaced.emplace_back(target_of(path)).write(text.data(), text.size());
  }
  for (AtomicFile& file : replaced) file.commit();
}

void write_new_file(const std::filesystem::path& path, std::string_view text) {
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  WEDGE_CHECK(file.get() >= 0, "{}", system_error(path, "make"));
  try {
    write_all(file, text.data(), text.size(), path);
    WEDGE_CHECK(::fsync(file.get()) == 0, "{}", system_error(path, "write"));
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
}

FolderLock::FolderLock(const std::filesystem::path& folder)
    : folder_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  while (::flock(folder_.get(), LOCK_EX) != 0 && errno == EINTR) continue;
}

// Opened without blocking: a pipe that nobody reads would wait here for ever.
LineLog::LineLog(const std::filesystem::path& path)
    : path_(path), file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666)) {
  WEDGE_CHECK(file_.get() >= 0, "{}", system_error(path, "write"));
  struct stat info {};
  WEDGE_CHECK(::fstat(file_.get(), &info) == 0 && S_ISREG(info.st_mode), "{}: not a regular file",
              path.string());
  WEDGE_CHECK(::flock(file_.get(), LOCK_EX | LOCK_NB) == 0, "{}: another run is writing here", path.string());
}

void LineLog::append(std::string_view line) {
  const std::string whole = std::string(line) + "\n";
  write_all(file_, whole.data(), whole.size(), path_);
}

void LineLog::truncate(std::uint64_t bytes) {
  struct stat info {};
  WEDGE_CHECK(::fstat(file_.get(), &info) == 0, "{}", system_error(path_, "read"));
  const auto size = static_cast<std::uint64_t>(info.st_size);
  WEDGE_CHECK(size >= bytes, "{}: expected at least {} bytes, it has {}", path_.string(), bytes, size);
  if (size == bytes) return;
  WEDGE_CHECK(::ftruncate(file_.get(), static_cast<off_t>(bytes)) == 0, "{}", system_error(path_, "write"));
}

std::uint64_t LineLog::sync() {
  struct stat info {};
  WEDGE_CHECK(::fsync(file_.get()) == 0 && ::fstat(file_.get(), &info) == 0, "{}",
              system_error(path_, "write"));
  return static_cast<std::uint64_t>(info.st_size);
}

}  // namespace wedge::app
