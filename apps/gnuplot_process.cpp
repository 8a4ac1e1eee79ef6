#include "apps/gnuplot_process.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string_view>

#include "apps/display_text.h"
#include "tensor/check.h"

extern char** environ;

namespace wedge::app {

namespace fs = std::filesystem;

namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

fs::path temporary_folder() {
  std::error_code error;  // where TMPDIR is no folder
  const fs::path folder = fs::temp_directory_path(error);
  return error ? fs::path("/tmp") : folder;
}

// A file without a name, which is gone when it is closed.
File temporary() {
  const fs::path folder = temporary_folder();
  std::string name = (folder / "wedge.XXXXXX").string();
  const int fd = ::mkstemp(name.data());
  if (fd >= 0) ::unlink(name.c_str());
  File file(fd >= 0 ? ::fdopen(fd, "w+b") : nullptr);
  WEDGE_CHECK(file != nullptr, "cannot make a temporary file in {}: {}", folder.string(),
              std::strerror(errno));
  return file;
}

std::string contents(std::FILE* file) {
  std::string all;
  std::rewind(file);
  char buffer[1 << 16];
  while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, file)) all.append(buffer, n);
  return all;
}

// gnuplot ends with status 0 when the disk was full under its output: a picture's own last bytes tell.
bool is_whole(const std::string& picture, ImageFormat format) {
  using namespace std::string_view_literals;
  if (format == ImageFormat::png) return picture.ends_with("IEND\xAE\x42\x60\x82"sv);
  const std::size_t end = picture.find_last_not_of(" \n");
  return end != std::string::npos && std::string_view(picture).substr(0, end + 1).ends_with("</svg>");
}

}  // namespace

// After a 0 gnuplot reads three octal digits more, else two: with it, a digit that follows is never taken
// along.
std::string quoted_for_gnuplot(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : one_line(text)) {
    const bool harmless = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                          (c != '\0' && std::strchr(" ()+,-./:;=_", c) != nullptr);
    quoted += harmless ? std::string(1, c) : fmt::format("\\0{:03o}", static_cast<unsigned char>(c));
  }
  return quoted + "\"";
}

std::string run_gnuplot(const std::string& script, ImageFormat format) {
  const File in = temporary(), out = temporary(), err = temporary();
  WEDGE_CHECK(
      std::fwrite(script.data(), 1, script.size(), in.get()) == script.size() && std::fflush(in.get()) == 0,
      "cannot write a temporary file in {}: {}", temporary_folder().string(), std::strerror(errno));
  std::rewind(in.get());

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ::fileno(in.get()), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, ::fileno(out.get()), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, ::fileno(err.get()), STDERR_FILENO);
  // -d: what the user has in ~/.gnuplot is for pictures of theirs.
  char name[] = "gnuplot", defaults[] = "-d", from_stdin[] = "-";
  char* argv[] = {name, defaults, from_stdin, nullptr};
  pid_t child = 0;
  const int failure = ::posix_spawnp(&child, name, &actions, nullptr, argv, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failure != 0)
    throw NoGnuplot(fmt::format("cannot run gnuplot: {}; pictures need it (Debian: gnuplot-nox)",
                                std::strerror(failure)));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  std::string picture = contents(out.get());
  std::string complaint = one_line(contents(err.get()));
  complaint.erase(complaint.find_last_not_of(' ') + 1);
  WEDGE_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "gnuplot: {}",
              complaint.empty() ? "failed without a word" : complaint);
  WEDGE_CHECK(is_whole(picture, format),
              "gnuplot: expected a whole picture, got {} bytes that break off; is the disk of {} full?",
              picture.size(), temporary_folder().string());
  return picture;
}

}  // namespace wedge::app
