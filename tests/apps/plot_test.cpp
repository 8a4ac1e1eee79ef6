// wedge plot and wedge report.
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "apps/compose.h"
#include "apps/html.h"
#include "apps/learning_curve.h"
#include "apps/published.h"
#include "data/unicode.h"
#include "tests/apps/command_runner.h"
#include "tests/apps/pictures.h"
#include "tests/apps/tiny_corpus.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::app;
using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

TEST_CASE("learning curve: steps are placed by the part of the epochs that is done", "[apps][plot]") {
  const TempDir temp;
  const RunFolder folder{temp.path()};
  std::string lines;
  for (int step = 0; step < 7; ++step) {
    lines += Json{{"step", step}, {"epoch", step / 4 + 1}, {"loss", 5.0 - step}}.dump() + "\n";
    if (step == 3)
      lines += R"({"epoch":1,"train_loss":3.5,"val_loss":3.25})"
               "\n";
  }
  spill(folder.metrics(), lines + "{\"step\":7,\"ep");
  const LearningCurve curve = read_curve(folder, "it");
  CHECK(curve.step_epochs == std::vector<double>{0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75});
  CHECK(curve.step_losses == std::vector<double>{5, 4, 3, 2, 1, 0, -1});
  CHECK(curve.val_epochs == std::vector<double>{1});
  CHECK(curve.val_losses == std::vector<double>{3.25});
  CHECK_FALSE(curve.result.has_value());
  CHECK(curve.config.is_null());

  spill(folder.metrics(), lines + "{\"step\":7,\"ep\n" + lines);
  CHECK_THROWS_WITH(read_curve(folder, "it"),
                    ContainsSubstring(folder.metrics().string() + ": line 9 is not one of"));
  spill(folder.metrics(), lines + R"({"diverged_at":7,"why":"the loss is nan"})" + "\n");
  const LearningCurve diverged = read_curve(folder, "it");
  REQUIRE(diverged.diverged.has_value());
  CHECK(describe(*diverged.diverged) == "diverged at step 7: the loss is nan");
  CHECK(diverged.step_losses == curve.step_losses);
  CHECK(picture_of({diverged, curve}).series.back().label == "it");
  CHECK(picture_of({curve, diverged}).series.back().label == "it, diverged at step 7");
  CHECK_FALSE(curve.diverged.has_value());
  spill(folder.metrics(), "");
  CHECK(read_curve(folder, "it").step_losses.empty());
}

TEST_CASE("learning curve: the picture has about 200 points a run, and leaves out how far up it began",
          "[apps][plot]") {
  LearningCurve curve;
  curve.label = "a";
  for (int i = 0; i < 10000; ++i) {
    curve.step_epochs.push_back((i + 1) / 5000.0);
    curve.step_losses.push_back(i < 100 ? 1000 : 3 - i / 10000.0);
  }
  curve.val_epochs = {1, 2};
  curve.val_losses = {2.5, 2.25};
  const Curves picture = picture_of({curve, curve});
  REQUIRE(picture.series.size() == 4);
  CHECK(picture.series[0].x.size() == 200);
  double mean = 0;
  for (const double y : picture.series[0].y) mean += y / 200;
  double expected = 0;
  for (const double y : curve.step_losses) expected += y / 10000;
  CHECK(mean == Approx(expected));
  CHECK(picture.series[2].y == curve.val_losses);
  CHECK(*picture.y_max < 3.1);
  CHECK(*picture.y_max > 2.9);
}

TEST_CASE("published figures stand beside runs like theirs only", "[apps][plot]") {
  const auto perplexities = [&](const std::vector<std::string>& words) {
    std::vector<double> values;
    for (const Published& p : published_for(to_json(compose(words, false).front())))
      values.push_back(p.perplexity);
    return values;
  };
  using Values = std::vector<double>;
  CHECK(perplexities({}) == Values{238.71, 321.05, 248.4, 275.7});
  CHECK(perplexities({"model=grassmann", "seed=7", "data=text"}) == Values{238.71, 321.05, 248.4, 275.7});
  const std::vector<std::string> founding = {"train.num_epochs=3", "train.batch_size=16",
                                             "data.max_samples_train=800", "data.max_samples_val=200"};
  CHECK(perplexities(founding) == Values{std::exp(23.8336), std::exp(23.5390)});
  for (std::size_t i = 0; i < founding.size(); ++i) {
    std::vector<std::string> without = founding;
    without.erase(without.begin() + static_cast<std::ptrdiff_t>(i));
    INFO("without " << founding[i]);
    CHECK(perplexities(without).empty());
  }
  const std::string twelve = "experiment=paper_12l_256";
  CHECK(perplexities({twelve}) == Values{218.28, 200.29, 235.2, 261.1});
  CHECK(perplexities({twelve, "model.pre_norm=false"}) == Values{235.2, 261.1});
  CHECK(perplexities({twelve, "model.pre_norm=false", "model.init=torch"}) ==
        Values{1381.35, 290.60, 235.2, 261.1});
  for (const std::vector<std::string>& other :
       std::initializer_list<std::vector<std::string>>{{"data=builtin"},
                                                       {"data=text", "data.train_file=mine.txt"},
                                                       {"data.path=mine"},
                                                       {"model.d_model=128"},
                                                       {"model.num_layers=12"},
                                                       {"train.max_steps=10"},
                                                       {"train.num_epochs=1"},
                                                       {"data.max_samples_val=10"},
                                                       {"data.max_samples_train=700"}}) {
    INFO(other.back());
    CHECK(perplexities(other).empty());
  }
  CHECK(published_for({{"model", {{"num_layers", 6}}}}).empty());
  CHECK(published_for({{"data", {{"source", "text"}}}, {"trainer", {{"lr", 0.001}}}}).empty());
  CHECK(published_for(nullptr).empty());
}

TEST_CASE("html: what comes from outside is text", "[apps][plot]") {
  HtmlPage page("a <b>");
  page.table({{{"<i>", "n"}, {"x & \"y\"", "1"}}, 1});
  page.fold("<s>", "</pre><script>");
  const std::string html = page.finish();
  CHECK_THAT(html, ContainsSubstring("<title>a &lt;b&gt;</title>") &&
                       ContainsSubstring("<th>&lt;i&gt;</th><th class=\"n\">n</th>") &&
                       ContainsSubstring("<td>x &amp; &quot;y&quot;</td><td class=\"n\">1</td>"));
  CHECK_THAT(html, !ContainsSubstring("<script"));
}

TEST_CASE("html: a picture's names are its own, its texts as they were", "[apps][plot]") {
  if (!have_gnuplot()) return;
  const std::string label = "> id=\"a\" url(#b) xlink:href='#c'";
  HtmlPage page("page");
  page.picture(Bars{"title", "x", {{label, 1, "1.00"}}});
  const std::string html = page.finish();
  CHECK_THAT(html, ContainsSubstring("<text>" + label + "</text>") && ContainsSubstring("id=\"p1_gnuplot") &&
                       !ContainsSubstring("id=\"gnuplot"));
}

TEST_CASE("bars: few marks, written alike, and a logarithmic axis where values are far apart",
          "[apps][plot]") {
  if (!have_gnuplot()) return;
  const auto bars_of = [](const std::vector<double>& losses) {
    std::vector<LearningCurve> curves;
    for (const double loss : losses) {
      LearningCurve& curve = curves.emplace_back();
      curve.result.emplace();
      curve.result->strategy = "attention";
      curve.result->best_val_loss = loss;
    }
    return best_of(curves);
  };
  const Bars close = bars_of({23.1, 24.69});
  CHECK_FALSE(close.logarithmic);
  CHECK_THAT(draw(close, ImageFormat::svg),
             ContainsSubstring(">2e+10<") && ContainsSubstring(">4e+10<") && !ContainsSubstring(">1e+10<"));
  const Bars apart = bars_of({5.5, 17.5, 800});  // exp(800) is more than a double holds
  CHECK(apart.logarithmic);
  CHECK(apart.bars.size() == 2);
  CHECK_THAT(draw(apart, ImageFormat::svg), ContainsSubstring(">1e+02<") && ContainsSubstring(">1e+06<"));

  const Bars rates{"Training throughput", "tokens/s", {{"a", 2154700, "2154700"}, {"b", 95529, "95529"}}};
  CHECK_THAT(draw(rates, ImageFormat::svg),
             ContainsSubstring(">500000<") && ContainsSubstring(">2000000<") && !ContainsSubstring("e+06"));
  const Bars small{"x", "y", {{"a", 0.003, "0.003"}}};
  CHECK_THAT(draw(small, ImageFormat::svg), ContainsSubstring(">0.001<") && ContainsSubstring(">0.002<"));
}

TEST_CASE("pictures call runs by what tells them apart", "[apps][plot]") {
  std::vector<LearningCurve> curves(2);
  for (const int i : {0, 1}) {
    curves[i].label = fmt::format("run_{}", i);
    curves[i].config = to_json(compose({fmt::format("seed={}", 42 + i)}, false).front());
    curves[i].val_epochs = curves[i].val_losses = {1, 2};
    curves[i].result.emplace();
    curves[i].result->tokens_per_second = 5;
  }
  CHECK(picture_of(curves).series[1].label == "run_1 (seed=43)");
  CHECK(best_of(curves).bars[0].label == "run_0 (seed=42)");
  CHECK(throughput_of(curves).bars[1].label == "run_1 (seed=43)");
  curves[1].config = curves[0].config;
  CHECK(picture_of(curves).series[1].label == "run_1");
  curves.pop_back();
  CHECK(picture_of(curves).series[0].label == "validation");
  CHECK(picture_of(curves).title == "Loss: TransformerLM, run_0");
}

TEST_CASE("best perplexities: each run has its own floor", "[apps][plot]") {
  std::vector<LearningCurve> curves(3);
  for (LearningCurve& curve : curves) curve.result.emplace().best_val_loss = 2;
  curves[0].result->floor = 1;
  curves[1].result->floor = 1;
  CHECK(best_of(curves).bars[0].line == std::exp(1.0));
  CHECK_FALSE(best_of(curves).bars[2].line);
  CHECK_THAT(best_of(curves).title, ContainsSubstring("the floor of the corpus"));
  curves[1].result->floor = 0.5;
  CHECK(best_of(curves).bars[0].line == std::exp(1.0));
  CHECK(best_of(curves).bars[1].line == std::exp(0.5));
  CHECK_THAT(best_of(curves).title, ContainsSubstring("the floor of each run's corpus"));
  if (have_gnuplot()) CHECK(!draw(best_of(curves), ImageFormat::svg).empty());
}

TEST_CASE("plot and report: a root that is a run, what has not begun, and what no axis reaches",
          "[apps][plot][command]") {
  if (!have_gnuplot()) return;
  const TempDir temp;
  const fs::path cwd = temp / "cwd";
  const auto put = [&](const std::string& folder, double loss) {
    fs::create_directories(cwd / folder);
    spill(cwd / folder / "metrics.jsonl", "{\"epoch\":1,\"val_loss\":2}\n");
    const Json results = {{"strategy", "attention"}, {"num_params", 1}, {"best_val_loss", loss}};
    spill(cwd / folder / "results.json", results.dump());
  };
  put("root", 4e9);
  Outcome report = run_wedge(cwd, {"report", "root"});
  CAPTURE(report.err);
  CHECK(report.status == 0);
  std::string html = slurp(cwd / "root/report.html");
  CHECK_THAT(html, ContainsSubstring("No perplexity is small enough to be drawn.") &&
                       ContainsSubstring(">inf<") && !ContainsSubstring("all runs are configured alike"));

  put("root/below", 2);
  fs::create_directories(cwd / "root/many/0_attention");
  fs::create_directories(cwd / "root/many/1_attention");
  spill(cwd / "root/many/multirun.json", "{\"runs\":2}\n");
  for (const char* member : {"0_attention", "1_attention"})
    spill(cwd / "root/many" / member / "config.json", "{}\n");
  spill(cwd / "root/many/0_attention/metrics.jsonl", "");
  report = run_wedge(cwd, {"report", "root"});
  CHECK(report.status == 0);
  html = slurp(cwd / "root/report.html");
  spill(cwd / "root/many/0_attention/metrics.jsonl", R"({"diverged_at":0,"why":"the loss is nan"})");
  CHECK(run_wedge(cwd, {"report", "root", "out=diverged.html"}).status == 0);
  CHECK_THAT(slurp(cwd / "diverged.html"),
             ContainsSubstring("many/0_attention diverged at step 0: the loss is nan.") &&
                 !ContainsSubstring("Not finished"));
  CHECK_THAT(html, ContainsSubstring("<td>root</td>") && ContainsSubstring("<td>below</td>") &&
                       ContainsSubstring("Not finished: many/0_attention.") &&
                       ContainsSubstring("Not begun: many/1_attention.") &&
                       ContainsSubstring("all runs are configured alike"));
  CHECK(find_curves(cwd / "root").size() == 3);
  const Outcome plot = run_wedge(cwd, {"plot", "root"});
  CHECK(plot.status == 0);
  CHECK_THAT(plot.err, ContainsSubstring("wedge: many/0_attention diverged at step 0: the loss is nan"));
  CHECK_THAT(slurp(cwd / "root/best.svg"), ContainsSubstring("<text>below"));
}

TEST_CASE("plot and report commands", "[apps][plot][command]") {
  if (!have_gnuplot()) return;
  const TempDir temp;
  const fs::path cwd = temp / "cwd";
  fs::create_directories(cwd);
  write_tiny_corpus(cwd / "tokens.safetensors");
  const std::string root = "runs \"a\" 5%d $x\\";
  REQUIRE(
      run_wedge(cwd, tiny_train({"-m", "model=attention,grassmann", "experiment.run_dir=" + root})).status ==
      0);

  const Outcome plot = run_wedge(cwd, {"plot", root});
  CAPTURE(plot.err);
  CHECK(plot.status == 0);
  CHECK(plot.out == root + "/learning_curves.svg\n" + root + "/learning_curves.png\n" + root + "/best.svg\n" +
                        root + "/best.png\n");
  for (const char* name : {"learning_curves", "best"}) {
    const std::string svg = slurp(cwd / root / (std::string(name) + ".svg"));
    CHECK_THAT(svg, ContainsSubstring("<svg") && ContainsSubstring("0_attention") &&
                        ContainsSubstring("1_grassmann") && ContainsSubstring("</svg>"));
    CHECK(slurp(cwd / root / (std::string(name) + ".png")).starts_with("\x89PNG"));
  }
  const Outcome one = run_wedge(cwd, {"plot", root + "/0_attention", "out=one"});
  CHECK(one.status == 0);
  CHECK_THAT(slurp(cwd / "one/learning_curves.svg"), ContainsSubstring("Loss: TransformerLM, 0_attention"));
  const Outcome both =
      run_wedge(cwd, {"plot", root + "/0_attention", root + "/1_grassmann", "out=new/pictures"});
  CHECK(both.status == 0);
  CHECK_THAT(slurp(cwd / "new/pictures/best.svg"), ContainsSubstring("5%d $x\\/0_attention"));

  // A folder's name is any bytes, a page is UTF-8.
  const fs::path bytes = cwd / "\xff\xc3";
  fs::copy(cwd / root, bytes, fs::copy_options::recursive);
  CHECK(run_wedge(cwd, {"report", "\xff\xc3"}).status == 0);
  const std::string page = slurp(bytes / "report.html");
  CHECK_FALSE(data::find_invalid_utf8(page));
  CHECK_THAT(page, ContainsSubstring("<title>wedge: \uFFFD\uFFFD</title>"));

  // A run that was stopped has curves and no result.
  fs::remove(cwd / root / "1_grassmann" / "results.json");
  const Outcome report = run_wedge(cwd, {"report", root});
  CAPTURE(report.err);
  CHECK(report.status == 0);
  CHECK(report.out == root + "/report.html\n");
  const std::string html = slurp(cwd / root / "report.html");
  CHECK(count(html, "<svg") == 3);
  CHECK_THAT(html, ContainsSubstring("TransformerLM") && ContainsSubstring("Not finished: 1_grassmann.") &&
                       ContainsSubstring("None are known for experiments like these."));
  CHECK(count(html, "http") == count(html, "http://www.w3.org/"));  // nothing is fetched
  CHECK(count(html, "<script") == 0);

  const auto refused = [&](const std::vector<std::string>& arguments, const std::string& text) {
    const Outcome outcome = run_wedge(cwd, arguments);
    CAPTURE(outcome.err);
    CHECK(outcome.status == 2);
    CHECK(is_one_error_line(outcome.err));
    CHECK_THAT(outcome.err, ContainsSubstring(text));
  };
  fs::create_directories(cwd / "empty");
  refused({"plot"}, "no run was named");
  refused({"plot", "nowhere"}, "nowhere is not a folder");
  refused({"plot", "empty"}, "empty holds no metrics.jsonl");
  refused({"plot", root, "out="}, "plot: out needs a value");
  refused({"plot", root, "out=a", "out=b"}, "plot: out is given twice");
  refused({"plot", "--out", "x"}, "unknown option '--out'");
  refused({"report"}, "no folder was named");
  refused({"report", root, root}, "expected ROOT");
  spill(cwd / root / "0_attention" / "metrics.jsonl", "{}\n");
  refused({"report", root}, "metrics.jsonl: line 1");
  const Outcome without =
      run_shell(cwd, "PATH=/nowhere \"$wedge\" plot new 2>&1; PATH=/nowhere \"$wedge\" plot " +
                         shell_quote(root + "/1_grassmann"));
  CHECK(without.status == 2);
  CHECK_THAT(without.err,
             ContainsSubstring("cannot run gnuplot") && ContainsSubstring("Debian: gnuplot-nox"));
}
