// wedge plot: pictures of runs.
#include "apps/commands.h"
#include "apps/console.h"
#include "apps/files.h"
#include "apps/gnuplot.h"
#include "apps/learning_curve.h"
#include "apps/summarize.h"
#include "apps/words.h"
#include "tensor/check.h"

namespace wedge::app {

namespace fs = std::filesystem;

std::string plot_help() {
  return R"(usage: wedge plot RUN... [out=FOLDER]

Draws learning_curves (training and validation loss by epoch) and best (the best validation perplexities,
and published ones of the same experiment), each as SVG and PNG, through gnuplot (Debian: gnuplot-nox).

  RUN          a run's folder, finished or not; or one above several, such as a multirun's: all runs in it
               and below are drawn, but for copies of a multirun's runs beside them
  out=FOLDER   where the pictures go (default: RUN, or with several the current folder)

examples:
  wedge plot runs/multirun/DATE/TIME
  wedge plot runs/a runs/b out=pictures
)";
}

int run_plot(const Words& words) {
  const std::vector<fs::path> roots(words.paths().begin(), words.paths().end());
  WEDGE_CHECK(!roots.empty(), "plot: no run was named; see wedge plot --help");
  const fs::path out = words.text("out").value_or(roots.size() == 1 ? roots.front() : ".");

  std::vector<LearningCurve> curves;
  std::vector<FoundRun> copies;
  for (const fs::path& root : roots)
    for (LearningCurve& curve : find_curves(root, roots.size() > 1, &copies))
      curves.push_back(std::move(curve));
  for (const LearningCurve& curve : curves)
    if (curve.diverged) print_notice(fmt::format("{} {}", curve.label, describe(*curve.diverged)));
  for (const std::string& line : describe_copies(copies, roots)) print_notice(line);
  // All is drawn before the first is written.
  std::vector<std::pair<fs::path, std::string>> pictures;
  const auto add = [&](const auto& picture, const std::string& name) {
    pictures.emplace_back(out / (name + ".svg"), draw(picture, ImageFormat::svg));
    pictures.emplace_back(out / (name + ".png"), draw(picture, ImageFormat::png));
  };
  const Curves learning = picture_of(curves);
  WEDGE_CHECK(!learning.series.empty(), "plot: no run has done a step yet");
  add(learning, "learning_curves");
  if (const Bars best = best_of(curves); !best.bars.empty()) add(best, "best");
  std::error_code error;
  fs::create_directories(out, error);
  WEDGE_CHECK(!error, "plot: cannot make the folder {}: {}", out.string(), error.message());
  for (const auto& [path, picture] : pictures) {
    write_file(path, picture);
    print(path.string() + "\n");
  }
  return 0;
}

}  // namespace wedge::app
