// The `wedge` command: the only place where an error becomes an exit status.
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <exception>

#include "apps/commands.h"
#include "apps/console.h"
#include "apps/interrupt.h"
#include "apps/waiting.h"

namespace {

constexpr int kStatusError = 2;
constexpr int kStatusSignal = 128;  // and the signal's number, as a shell reports it

// A file that wedge opens must never get the number of a standard stream that the caller closed: output would
// go into it. Opened for reading only, so that printing still fails.
void occupy_standard_streams() {
  for (int fd = ::open("/dev/null", O_RDONLY); fd >= 0; fd = ::open("/dev/null", O_RDONLY)) {
    if (fd > STDERR_FILENO) {
      ::close(fd);
      return;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  wedge::app::limit_spinning(argv);
  occupy_standard_streams();
  std::signal(SIGPIPE, SIG_IGN);  // a pipe that nobody reads does not end a training run
  std::signal(SIGXFSZ, SIG_IGN);  // nor does a limit on the size of files
  int status = 0;
  try {
    status = wedge::app::run_command_line(wedge::app::Arguments(argv + 1, argv + argc));
    wedge::app::finish_output();
  } catch (const wedge::app::Interrupted& interrupted) {
    wedge::app::print_notice(interrupted.what());
    status = kStatusSignal + interrupted.signal();
  } catch (const wedge::app::OutputClosed&) {
    status = kStatusSignal + SIGPIPE;
  } catch (const std::bad_alloc&) {
    wedge::app::print_error("out of memory");
    status = kStatusError;
  } catch (const std::exception& error) {
    wedge::app::print_error(error.what());
    status = kStatusError;
  }
  return status;
}
