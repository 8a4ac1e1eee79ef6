#include "tensor/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <regex>
#include <utility>

#include "tensor/check.h"

namespace wedge {

namespace {

namespace fs = std::filesystem;

// Makes a new file beside `path`, and says in `temporary` what it is called.
int make_beside(const fs::path& path, fs::path& temporary) {
  struct stat status {};
  WEDGE_CHECK(::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode),
              "{}: cannot write: it is not a regular file", path.string());
  static std::atomic<unsigned> counter{0};
  int fd = -1;
  do {  // a name may be left over from a process that died
    temporary = path;
    temporary.replace_filename(fmt::format(".wedge-{}-{}.tmp", ::getpid(), counter++));
    fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EEXIST);
  WEDGE_CHECK(fd >= 0, "{}", system_error(path, "create a file in its folder"));
  return fd;
}

void sync_folder_of(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const FileDescriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // EINVAL: a file system that cannot sync folders; the file itself is complete.
  WEDGE_CHECK(opened.get() >= 0 && (::fsync(opened.get()) == 0 || errno == EINVAL), "{}",
              system_error(path, "sync its folder"));
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  close();
}

bool FileDescriptor::close() {
  return fd_ < 0 || ::close(std::exchange(fd_, -1)) == 0;
}

void write_all(const FileDescriptor& file, const void* data, std::size_t bytes, const fs::path& path) {
  const auto* p = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(file.get(), p, std::min<std::size_t>(bytes, std::size_t{1} << 30));
    if (written < 0) {
      if (errno == EINTR) continue;
      throw Error(system_error(path, "write"));
    }
    p += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

std::string system_error(const fs::path& path, const char* what) {
  const int cause = errno;
  return fmt::format("{}: cannot {}: {}", path.string(), what, std::strerror(cause));
}

AtomicFile::AtomicFile(const fs::path& path) : path_(path), file_(make_beside(path, temporary_)) {}

AtomicFile::~AtomicFile() {
  if (!committed_) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  write_all(file_, data, bytes, path_);
}

void AtomicFile::commit() {
  WEDGE_CHECK(::fsync(file_.get()) == 0 && file_.close(), "{}", system_error(path_, "write"));
  WEDGE_CHECK(::rename(temporary_.c_str(), path_.c_str()) == 0, "{}", system_error(path_, "replace"));
  committed_ = true;
  sync_folder_of(path_);
}

bool AtomicFile::is_temporary(const fs::path& file) {
  static const std::regex pattern(R"(\.wedge-[0-9]+-[0-9]+\.tmp)");
  return std::regex_match(file.filename().string(), pattern);
}

}  // namespace wedge
