#include "apps/console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "data/unicode.h"
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

std::size_t output_columns() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void print_error(std::string_view message) {
  print_notice(fmt::format("error: {}", message));
}

void print_notice(std::string_view message) {
  std::string line = "wedge: ";
  const auto escape = [&line](char c) { line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c)); };
  while (!message.empty()) {
    const std::size_t valid = data::find_invalid_utf8(message).value_or(message.size());
    for (const char c : message.substr(0, valid)) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
        escape(c);
      else
        line += c;
    }
    message.remove_prefix(valid);
    if (message.empty()) break;
    escape(message.front());
    message.remove_prefix(1);
  }
  std::fprintf(stderr, "%s\n", line.c_str());
}

}  // namespace wedge::app
