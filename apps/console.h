// Standard output and standard error of the command.
#pragma once

#include <cstddef>
#include <string_view>

namespace wedge::app {

// Writes to standard output. A failure (closed pipe, full disk) is remembered, not thrown: work that is under
// way goes on, and finish_output() tells.
void print(std::string_view text);

// Sends what is buffered on its way.
void flush_output();

// Nobody reads standard output any more (as after `| head`), which is no fault of anybody's.
struct OutputClosed {};

// Throws OutputClosed, and wedge::Error when anything that was printed did not arrive for another reason.
void finish_output();

// Whether standard output is a terminal; and how many columns that has, 80 where it does not say.
bool output_is_terminal();
std::size_t output_columns();

// "wedge: MESSAGE", in the same way as print_error.
void print_notice(std::string_view message);

// "wedge: error: MESSAGE" as one line on standard error: line ends, control characters and bytes that are
// no UTF-8 are escaped.
void print_error(std::string_view message);

}  // namespace wedge::app
