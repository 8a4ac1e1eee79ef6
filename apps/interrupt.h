// An orderly end when the user or the system asks for one.
#pragma once

#include <string>

#include "tensor/check.h"

namespace wedge::app {

// While it lives, a first SIGINT or SIGTERM is only noted, and a second one ends the process as if it did not
// live. A signal that was ignored before stays so. One within another shares what the outer one noted: a run
// has one, and a multirun one around those of its runs. In one thread.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  // The number of the signal that came since the outermost guard was made; 0: none.
  int signal() const;
  // "SIGINT" or "SIGTERM"; to be called when one came.
  const char* name() const;
};

// Work stopped because a signal asked for it; what was done is saved.
class Interrupted : public Error {
 public:
  Interrupted(int signal, const std::string& message) : Error(message), signal_(signal) {}
  int signal() const { return signal_; }

 private:
  int signal_;
};

}  // namespace wedge::app
