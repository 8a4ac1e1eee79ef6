// wedge summarize: the comparison table of a tree of runs.
#include <optional>

#include "apps/commands.h"
#include "apps/config_keys.h"
#include "apps/console.h"
#include "apps/files.h"
#include "apps/summarize.h"
#include "apps/table.h"
#include "tensor/check.h"

namespace wedge::app {

std::string summarize_help() {
  return "usage: wedge summarize --root DIR --out FILE.md\n"
         "\n"
         "Makes the comparison table from every results.json in DIR and below, prints it and writes it to "
         "FILE.md.\n"
         "Where a model appears more than once, a column names the run and the keys that differ, and runs "
         "that\n"
         "differ in the seed alone get a row with mean ± sample standard deviation.\n"
         "\n"
         "  --root DIR      where to look (default: runs)\n"
         "  --out FILE.md   where to write; without it the table is only printed\n"
         "\n"
         "example:\n"
         "  wedge summarize --root runs/multirun --out comparison.md\n";
}

int run_summarize(const Arguments& arguments) {
  std::string root = "runs";
  std::optional<std::string> out;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::size_t equals = arguments[i].find('=');
    const std::string name = arguments[i].substr(0, equals);
    WEDGE_CHECK(name == "--root" || name == "--out", "summarize: unknown argument '{}'; {}", arguments[i],
                nearest_is(name, {"--root", "--out"}, "see wedge summarize --help"));
    WEDGE_CHECK(equals != std::string::npos || i + 1 < arguments.size(), "summarize: {} needs a value", name);
    const std::string value = equals != std::string::npos ? arguments[i].substr(equals + 1) : arguments[++i];
    WEDGE_CHECK(!value.empty(), "summarize: {} needs a value", name);
    if (name == "--root")
      root = value;
    else
      out = value;
  }
  const std::string table = comparison_table(find_results(root));
  if (out) write_file(*out, table);
  print(table);
  return 0;
}

}  // namespace wedge::app
