// Files that are replaced at once or not at all, and what their writing is made of.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace wedge {

// Closes the file at the end of its life.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}  // -1: none
  ~FileDescriptor();
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  int get() const { return fd_; }
  // Closes it now; false, and errno says why, where the system could not write what it still held.
  bool close();

 private:
  int fd_;
};

// Writes all of it, however many calls that takes. Throws wedge::Error "PATH: cannot write: CAUSE".
void write_all(const FileDescriptor& file, const void* data, std::size_t bytes,
               const std::filesystem::path& path);

// "PATH: cannot WHAT: CAUSE", the cause that errno names.
std::string system_error(const std::filesystem::path& path, const char* what);

// A new file that takes the place of `path`. The bytes go to a temporary file in the same folder, which no
// other process or thread has; commit() waits until they are on the disk, gives that file the name `path`,
// and waits until the folder is on the disk too. Whoever opens `path`, at any time, after a crash as well,
// finds all of the old bytes or all of the new ones; who has it open keeps the old ones. A process that is
// killed leaves its temporary file behind.
class AtomicFile {
 public:
  // Throws wedge::Error where something that is not a regular file is at `path`, or no file can be made in
  // its folder.
  explicit AtomicFile(const std::filesystem::path& path);
  // Without commit() the temporary file is removed, and `path` is as it was.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Throws wedge::Error as write_all does.
  void write(const void* data, std::size_t bytes);

  // To be called once, in the end. Throws wedge::Error when the system refuses; `path` is then as it was,
  // unless it is only its folder that cannot be synced.
  void commit();

  // Whether a file of this name is such a temporary one.
  static bool is_temporary(const std::filesystem::path& file);

 private:
  std::filesystem::path path_, temporary_;
  FileDescriptor file_;
  bool committed_ = false;
};

}  // namespace wedge
