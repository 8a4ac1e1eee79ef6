// wedge report: one page that tells what a tree of runs found out.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "apps/commands.h"
#include "apps/config_keys.h"
#include "apps/console.h"
#include "apps/files.h"
#include "apps/format.h"
#include "apps/html.h"
#include "apps/learning_curve.h"
#include "apps/published.h"
#include "apps/run_dir.h"
#include "apps/summarize.h"
#include "apps/table.h"
#include "apps/words.h"
#include "tensor/check.h"

namespace wedge::app {

namespace fs = std::filesystem;

namespace {

// The figures that others published for the experiments of these runs, beside ours.
Table published_beside(const std::vector<LabelledResult>& results) {
  Table table{{{"Model", "Source", "Published PPL", "Best of ours"}}, 2};
  for (const LabelledResult& ours : results)
    for (const Published& other : published_for(ours.result.config)) {
      if (other.strategy != ours.result.strategy) continue;
      const TableRow row = {model_name(other.strategy), other.source, format_perplexity(other.perplexity)};
      double best = ours.result.best_val_loss;
      for (const LabelledResult& same : results)
        if (same.result.strategy == other.strategy &&
            std::ranges::any_of(published_for(same.result.config), [&](const Published& p) {
              return p.source == other.source && p.perplexity == other.perplexity;
            }))
          best = std::min(best, same.result.best_val_loss);
      TableRow full = row;
      full.push_back(format_perplexity(std::exp(best)));
      if (std::find(table.rows.begin(), table.rows.end(), full) == table.rows.end())
        table.rows.push_back(full);
    }
  return table;
}

Table differences(const std::vector<LabelledResult>& results, const std::vector<const Key*>& keys) {
  Table table{{{"Run"}}, 1 + keys.size()};
  for (const Key* key : keys) table.rows.front().emplace_back(key->name);
  for (const LabelledResult& r : results) {
    table.rows.push_back({r.label});
    for (const Key* key : keys) table.rows.back().push_back(get_key(r.result.config, *key).dump());
  }
  return table;
}

// The runs of multiruns that stand in line: a configuration, and no metrics yet.
std::vector<std::string> not_begun(const fs::path& root) {
  std::vector<std::string> labels;
  for (const auto& [folder, label] : find_runs(root, "config.json", false).runs) {
    const RunFolder run{folder};
    if (!is_there(run.metrics()) && is_there(run.path / ".." / "multirun.json")) labels.push_back(label);
  }
  return labels;
}

void add_configuration(HtmlPage& page, const std::vector<LabelledResult>& results) {
  page.heading("Configuration");
  const std::vector<LabelledResult> compared = comparable(results);
  if (const auto keys = differing_keys(configs_of(compared)); !keys.empty())
    page.table(differences(compared, keys));
  else if (results.size() > 1)
    page.paragraph("Apart from the mixer, all runs are configured alike.");
  for (const LabelledResult& r : results)
    if (r.result.config.is_object()) page.fold("Everything of " + r.label, r.result.config.dump(2));
}

void add_results(HtmlPage& page, const std::vector<LabelledResult>& results,
                 const std::vector<LearningCurve>& curves) {
  if (const Bars best = best_of(curves); !best.bars.empty())
    page.picture(best);
  else
    page.paragraph("No perplexity is small enough to be drawn.");
  page.heading("Published figures");
  if (const Table table = published_beside(results); table.rows.size() > 1)
    page.table(table);
  else
    page.paragraph("None are known for experiments like these.");
  page.heading("Throughput");
  if (const Bars bars = throughput_of(curves); !bars.bars.empty())
    page.picture(bars);
  else
    page.paragraph("No run says how fast it was.");
  add_configuration(page, results);
}

}  // namespace

std::string report_help() {
  return R"(usage: wedge report ROOT [out=FILE.html]

Writes one self-contained page about all runs in ROOT and below, such as a multirun's folder (but for
copies of its runs beside them): the comparison table, the learning curves, what differs between the
configurations, throughput, and the published figures of the same experiments beside ours. Pictures are
drawn by gnuplot (Debian: gnuplot-nox).

  out=FILE.html   (default: ROOT/report.html)

example:
  wedge report runs/multirun/DATE/TIME
)";
}

int run_report(const Words& words) {
  WEDGE_CHECK(!words.paths().empty(), "report: no folder was named; see wedge report --help");
  WEDGE_CHECK(words.paths().size() == 1, "report: expected ROOT [out=FILE.html], got '{}' too",
              words.paths()[1]);
  const fs::path root = words.paths().front();

  std::vector<FoundRun> copies;
  const std::vector<LearningCurve> curves = find_curves(root, false, &copies);
  std::vector<LabelledResult> results;
  std::vector<std::string> unfinished, diverged;
  for (const LearningCurve& curve : curves) {
    if (curve.result)
      results.push_back({curve.label, *curve.result});
    else if (curve.diverged)
      diverged.push_back(fmt::format("{} {}", curve.label, describe(*curve.diverged)));
    else
      unfinished.push_back(curve.label);
  }
  const std::vector<std::string> waiting = not_begun(root);

  HtmlPage page(fmt::format("wedge: {}", root.string()));
  if (!results.empty()) {
    page.heading("Comparison");
    page.table(comparison_of(results));
  }
  for (const std::string& line : diverged) page.paragraph(line + ".");
  if (!unfinished.empty()) page.paragraph(fmt::format("Not finished: {}.", fmt::join(unfinished, ", ")));
  for (const std::string& line : describe_copies(copies, {root})) page.paragraph(line + ".");
  if (!waiting.empty()) page.paragraph(fmt::format("Not begun: {}.", fmt::join(waiting, ", ")));
  page.heading("Learning curves");
  if (const Curves picture = picture_of(curves); !picture.series.empty())
    page.picture(picture);
  else
    page.paragraph("No run has done a step yet.");
  if (!results.empty()) add_results(page, results, curves);
  const fs::path file = words.text("out").value_or(root / "report.html");
  write_file(file, page.finish());
  print(file.string() + "\n");
  return 0;
}

}  // namespace wedge::app
