#include "apps/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "tensor/atomic_file.h"
#include "tensor/check.h"

namespace wedge::app {

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

std::string read_file(const std::filesystem::path& path) {
  // Not blocking: a pipe that nobody writes to would be waited for.
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  WEDGE_CHECK(file.get() >= 0, "{}", system_error(path, "read"));
  struct stat info {};
  WEDGE_CHECK(::fstat(file.get(), &info) == 0 && S_ISREG(info.st_mode),
              "{}: cannot read: it is not a regular file", path.string());
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

void write_file(const std::filesystem::path& given, std::string_view text) {
  // Of a link, what it leads to is replaced.
  std::error_code error;
  std::filesystem::path path = given;
  if (std::filesystem::is_symlink(given, error)) path = std::filesystem::canonical(given, error);
  WEDGE_CHECK(!path.empty(), "{}: cannot write: a link that leads nowhere", given.string());
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.commit();
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
