// The manual page, from the same texts as wedge help.
#pragma once

#include <string>

namespace wedge::app {

// wedge(1), in man's macros.
std::string man_page();

}  // namespace wedge::app
