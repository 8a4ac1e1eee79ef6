#include "apps/console.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "tensor/check.h"

namespace wedge::app {

namespace {

int g_output_errno = 0;  // cause of the first failed write; 0: none

void remember_failure() {
  if (g_output_errno == 0) g_output_errno = errno != 0 ? errno : EIO;
}

}  // namespace

void print(std::string_view text) {
  errno = 0;
  if (g_output_errno == 0 && std::fwrite(text.data(), 1, text.size(), stdout) != text.size())
    remember_failure();
}

void flush_output() {
  errno = 0;
  if (g_output_errno == 0 && std::fflush(stdout) != 0) remember_failure();
}

void finish_output() {
  flush_output();
  if (g_output_errno == EPIPE) throw OutputClosed();
  WEDGE_CHECK(g_output_errno == 0, "cannot write to standard output: {}", std::strerror(g_output_errno));
}

bool output_is_terminal() {
  return ::isatty(STDOUT_FILENO) == 1;
}

void print_error(std::string_view message) {
  print_notice(fmt::format("error: {}", message));
}

void print_notice(std::string_view message) {
  std::string line = "wedge: ";
  for (const char c : message) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      line += c;
  }
  std::fprintf(stderr, "%s\n", line.c_str());
}

}  // namespace wedge::app
