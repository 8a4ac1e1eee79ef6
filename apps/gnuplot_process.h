// gnuplot as a process: what reaches it, and whether what comes back is whole.
#pragma once

#include <string>

#include "apps/gnuplot.h"

namespace wedge::app {

// A text from anywhere as a string of gnuplot's language. Letters, digits and what means nothing stand as they
// are, all else as octal escapes: gnuplot runs `commands` in strings too.
std::string quoted_for_gnuplot(const std::string& text);

// The picture that `script` writes to gnuplot's standard output. Throws NoGnuplot, and wedge::Error when
// gnuplot refuses or the picture is not whole.
std::string run_gnuplot(const std::string& script, ImageFormat format);

}  // namespace wedge::app
