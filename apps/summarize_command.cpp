// wedge summarize: the comparison table of a tree of runs.
#include "apps/commands.h"
#include "apps/console.h"
#include "apps/files.h"
#include "apps/summarize.h"
#include "apps/table.h"
#include "apps/words.h"

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

int run_summarize(const Words& words) {
  const std::string table = comparison_table(find_results(words.text("--root").value_or("runs")));
  if (const auto out = words.text("--out")) write_file(*out, table);
  print(table);
  return 0;
}

}  // namespace wedge::app
