// Errors: one exception type for everything that a caller or a user can get wrong.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace wedge {

// Thrown by every wedge function on bad input. what() is one line that names the operation, what was expected
// and what came. The library never exits the process; the `wedge` command turns it into exit status 2.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace wedge

// Throws wedge::Error with a formatted message unless `cond` holds:
//   WEDGE_CHECK(n == d, "layernorm: weight must be [{}], got [{}]", d, n);
#define WEDGE_CHECK(cond, ...)                        \
  do {                                                \
    if (!(cond)) [[unlikely]]                         \
      throw ::wedge::Error(fmt::format(__VA_ARGS__)); \
  } while (false)
