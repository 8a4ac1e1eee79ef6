// The table that compares runs, in Markdown, aligned so that it also reads well on a terminal.
#pragma once

#include <string>
#include <vector>

#include "apps/results.h"

namespace wedge::app {

struct LabelledResult {
  std::string label;  // names the run among the others: its folder
  RunResult result;
};

// make_comparable() of them.
std::vector<LabelledResult> comparable(std::vector<LabelledResult> results);
std::vector<Json> configs_of(const std::vector<LabelledResult>& results);

using TableRow = std::vector<std::string>;

// Model | Params (M) | Best Val Loss | Best Val PPL | tokens/s, a row a run, in the order given. Where a
// model appears more than once, a column Run tells the rows apart by label, experiment.name and the keys that
// differ, and every group of runs that differ in the seed alone gets a row with mean ± sample standard
// deviation, in which a seed counts once however many runs have it. The floor of the built-in corpus comes
// last; where there are several, each with whose it is. `results` must not be empty.
std::string comparison_table(const std::vector<LabelledResult>& results);

// The same as cells of plain text, the head first; numbers begin in column `text_columns`.
struct Table {
  std::vector<TableRow> rows;
  std::size_t text_columns = 1;
};
Table comparison_of(const std::vector<LabelledResult>& results);

}  // namespace wedge::app
