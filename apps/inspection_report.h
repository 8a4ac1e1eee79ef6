// What an inspection found, as JSON, as pictures and tables, and in a few lines.
#pragma once

#include <string>

#include "apps/config.h"
#include "apps/html.h"
#include "apps/inspection.h"

namespace wedge::app {

Json to_json(const Inspection& inspection);
// Adds the pictures and tables to a page.
void describe(const Inspection& inspection, HtmlPage& page);
// For a terminal.
std::string summary(const Inspection& inspection);

}  // namespace wedge::app
