// wedge summarize: the comparison table of a tree of runs.
#include "apps/commands.h"
#include "apps/console.h"
#include "apps/files.h"
#include "apps/summarize.h"
#include "apps/table.h"
#include "apps/words.h"

namespace wedge::app {

std::string summarize_help() {
  return R"(usage: wedge summarize [DIR]... [--out FILE.md]

Makes the comparison table from every results.json in DIR and below, prints it and writes it to FILE.md.
Where a model appears more than once, a column names the run, its experiment.name and the keys that
differ; runs that differ in the seed alone get a row with mean ± sample standard deviation. A run that
diverged has no row, nor has a copy of a multirun's run beside it, such as 0_attention.bak; a line on
standard error names each.

  DIR             where to look (default: runs), links to folders included; --root DIR says the same
  --out FILE.md   where to write; without it the table is only printed

example:
  wedge summarize runs/multirun --out comparison.md
)";
}

int run_summarize(const Words& words) {
  std::vector<std::string> roots = words.paths();
  if (const auto root = words.text("--root")) roots.push_back(*root);
  if (roots.empty()) roots = {"runs"};
  for (const std::string& root : roots)
    for (const std::string& line : find_diverged(root, roots.size() > 1)) print_notice(line);
  std::vector<LabelledResult> results;
  std::vector<FoundRun> copies;
  for (const std::string& root : roots)
    for (LabelledResult& result : find_results(root, roots.size() > 1, &copies))
      results.push_back(std::move(result));
  for (const std::string& line : describe_copies(copies, {roots.begin(), roots.end()})) print_notice(line);
  const std::string table = comparison_table(results);
  if (const auto out = words.text("--out")) write_file(*out, table);
  print(table);
  return 0;
}

}  // namespace wedge::app
