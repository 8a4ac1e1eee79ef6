#include "apps/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tensor/check.h"

namespace wedge::app {

namespace {

Error system_error(const char* what, const std::filesystem::path& path) {
  return Error(fmt::format("cannot {} {}: {}", what, path.string(), std::strerror(errno)));
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

std::string read_file(const std::filesystem::path& path) {
  // Not blocking: a pipe that nobody writes to would be waited for.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw system_error("read", path);
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw Error(fmt::format("cannot read {}: it is not a regular file", path.string()));
  }
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const Error error = system_error("read", path);
      ::close(fd);
      if (n < 0) throw error;
      return text;
    }
    text.append(buffer, static_cast<std::size_t>(n));
  }
}

void write_file(const std::filesystem::path& given, std::string_view text) {
  // Of a link, what it leads to is replaced.
  std::error_code error;
  std::filesystem::path path = given;
  if (std::filesystem::is_symlink(given, error)) path = std::filesystem::canonical(given, error);
  WEDGE_CHECK(!path.empty(), "cannot write {}: a link that leads nowhere", given.string());
  struct stat info {};
  WEDGE_CHECK(::stat(path.c_str(), &info) != 0 || S_ISREG(info.st_mode),
              "cannot write {}: it is not a regular file", path.string());
  const std::string temporary = fmt::format("{}.{}.tmp", path.string(), ::getpid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) throw system_error("write", path);
  const bool written = write_all(fd, text) && ::fsync(fd) == 0;
  const int cause = errno;
  ::close(fd);
  errno = cause;
  if (!written || ::rename(temporary.c_str(), path.c_str()) != 0) {
    const Error error = system_error("write", path);
    ::unlink(temporary.c_str());
    throw error;
  }
}

void write_new_file(const std::filesystem::path& path, std::string_view text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) throw system_error("make", path);
  const bool written = write_all(fd, text) && ::fsync(fd) == 0;
  const Error error = system_error("write", path);
  ::close(fd);
  if (written) return;
  ::unlink(path.c_str());
  throw error;
}

LineLog::LineLog(const std::filesystem::path& path) : path_(path) {
  // Not blocking: a pipe that nobody reads would wait here for ever.
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
  if (fd_ < 0) throw system_error("write", path);
  struct stat info {};
  if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd_);
    throw Error(fmt::format("{}: not a regular file", path.string()));
  }
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd_);
    throw Error(fmt::format("{}: another run is writing here", path.string()));
  }
}

LineLog::~LineLog() {
  ::close(fd_);
}

void LineLog::append(std::string_view line) {
  if (!write_all(fd_, std::string(line) + "\n")) throw system_error("write", path_);
}

void LineLog::truncate(std::uint64_t bytes) {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) throw system_error("read", path_);
  const auto size = static_cast<std::uint64_t>(info.st_size);
  WEDGE_CHECK(size >= bytes, "{}: expected at least {} bytes, it has {}", path_.string(), bytes, size);
  if (size == bytes) return;
  if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) throw system_error("write", path_);
}

std::uint64_t LineLog::sync() {
  struct stat info {};
  if (::fsync(fd_) != 0 || ::fstat(fd_, &info) != 0) throw system_error("write", path_);
  return static_cast<std::uint64_t>(info.st_size);
}

}  // namespace wedge::app
