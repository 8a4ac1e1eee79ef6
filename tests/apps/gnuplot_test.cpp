// What reaches gnuplot, and what comes back from it.
#include "apps/gnuplot.h"

#include <cstdlib>
#include <filesystem>

#include "apps/display_text.h"
#include "apps/gnuplot_process.h"
#include "apps/learning_curve.h"
#include "data/unicode.h"
#include "tests/apps/command_runner.h"
#include "tests/apps/pictures.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace wedge;
using namespace wedge::app;
using namespace wedge::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

Curves curves_with(const std::vector<std::string>& labels) {
  Curves curves{"title", "x", "y", {}, {}};
  for (std::size_t i = 0; i < labels.size(); ++i)
    curves.series.push_back({labels[i], {1, 2}, {1.0 + static_cast<double>(i), 2}, i, false, true});
  return curves;
}

Bars bars_with(const std::vector<std::string>& labels) {
  Bars bars{"title", "x", {}};
  for (std::size_t i = 0; i < labels.size(); ++i)
    bars.bars.push_back({labels[i], 1.0 + static_cast<double>(i), "1.00", i, false});
  return bars;
}

// Where gnuplot put a text, and the picture's size.
struct Place {
  double x = 0, y = 0, width = 0, height = 0;
};

Place place_of(const std::string& svg, const std::string& text) {
  Place place;
  const std::size_t at = svg.find("<text>" + text + "</text>");
  INFO(text);
  REQUIRE(at != std::string::npos);
  const std::size_t before = svg.rfind("translate(", at);
  REQUIRE(std::sscanf(svg.c_str() + before, "translate(%lf,%lf)", &place.x, &place.y) == 2);
  const std::size_t size = svg.find("width=\"");
  REQUIRE(std::sscanf(svg.c_str() + size, "width=\"%lf\" height=\"%lf\"", &place.width, &place.height) == 2);
  return place;
}

std::vector<std::string> labels_of_length(std::size_t count, std::size_t length) {
  std::vector<std::string> labels;
  for (std::size_t i = 0; i < count; ++i)
    labels.push_back((fmt::format("{}_run_", i) + std::string(200, 'm')).substr(0, length));
  return labels;
}

}  // namespace

TEST_CASE("gnuplot: a text is only ever a text, of whatever bytes", "[apps][plot]") {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  const std::string quoted = quoted_for_gnuplot(all);
  CHECK(quoted.find_first_of("`$@%{}#!'\n\r\t") == std::string::npos);
  CHECK(std::count(quoted.begin(), quoted.end(), '"') == 2);
  CHECK(quoted_for_gnuplot("a`b7\\\"\n") == R"("a\0140b7\0134\0042 ")");

  if (!have_gnuplot()) return;
  const TempDir temp;
  const std::string evil = fmt::format("`touch {}` $(x) @a %d {{/b}} \\n", (temp / "made").string());
  Curves curves = curves_with({evil});
  curves.title = curves.x_label = curves.y_label = evil;
  Bars bars = bars_with({evil});
  bars.title = bars.x_label = bars.bars[0].text = evil;
  CHECK(count(draw(curves, ImageFormat::svg), "<text>" + evil + "</text>") == 4);
  CHECK(count(draw(bars, ImageFormat::svg), "<text>" + evil + "</text>") == 4);
  draw(curves, ImageFormat::png);
  draw(bars, ImageFormat::png);
  CHECK_FALSE(fs::exists(temp / "made"));

  std::vector<std::string> labels;
  for (const char c : all) labels.push_back("<" + std::string(1, c) + ">");
  labels.push_back("<\uFFFF\uFDD0\u0085>");
  for (const std::string& svg :
       {draw(curves_with(labels), ImageFormat::svg), draw(bars_with(labels), ImageFormat::svg)}) {
    CHECK_FALSE(data::find_invalid_utf8(svg));
    CHECK(std::none_of(svg.begin(), svg.end(), [](char c) {
      return (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F;
    }));
    for (char c = '!'; c < 0x7F; ++c)
      if (c != '<' && c != '>' && c != '&') CHECK(count(svg, fmt::format("<text>&lt;{}></text>", c)) == 1);
    CHECK_THAT(svg, ContainsSubstring("<text>&lt;&amp;></text>") && ContainsSubstring("<text>&lt;&lt;>"));
    CHECK(count(svg, "<text>&lt;\uFFFD></text>") == 128);  // no single byte above 0x7F is UTF-8
    CHECK_THAT(svg, ContainsSubstring("<text>&lt;\uFFFD\uFFFD ></text>"));
  }
}

TEST_CASE("gnuplot: there is room for every label", "[apps][plot]") {
  if (!have_gnuplot()) return;
  for (const std::size_t runs : {2, 6, 24, 40})
    for (const std::size_t length : {8, 20, 43, 120}) {
      CAPTURE(runs, length);
      const std::vector<std::string> labels = labels_of_length(runs, length);
      const std::string curves = draw(curves_with(labels), ImageFormat::svg);
      const std::string bars = draw(bars_with(labels), ImageFormat::svg);
      const Place axis = place_of(curves, "x");
      double above = 0;
      for (const std::string& label : labels) {
        const Place key = place_of(curves, shorten_middle(label, 80));
        CHECK(key.y > axis.y);
        CHECK(key.y < key.height);
        CHECK(key.x > 0);
        CHECK(key.x + 6.5 * static_cast<double>(std::min<std::size_t>(length, 80)) < key.width);
        const Place bar = place_of(bars, shorten_middle(label, 80));  // where it ends
        CHECK(bar.x > 6.5 * static_cast<double>(std::min<std::size_t>(length, 80)));
        CHECK(bar.width - bar.x > 350);
        CHECK(bar.y > above);
        above = bar.y;
      }
    }
  // Those that look alike once they are shortened are told apart.
  const std::string twice = std::string(50, 'a') + std::string(20, 'b') + std::string(50, 'a');
  const std::string other = std::string(50, 'a') + std::string(20, 'c') + std::string(50, 'a');
  CHECK_THAT(draw(curves_with({twice, other}), ImageFormat::svg), ContainsSubstring("aa [2]</text>"));
  // As many runs as nobody should compare.
  CHECK(draw(bars_with(labels_of_length(1000, 8)), ImageFormat::png).starts_with("\x89PNG"));
}

TEST_CASE("gnuplot: a picture has one title, its own", "[apps][plot]") {
  if (!have_gnuplot()) return;
  Bars bars = bars_with({"a", "b"});
  bars.title = "1 < 2";
  for (const std::string& svg :
       {draw(bars, ImageFormat::svg), draw(curves_with({"a", ""}), ImageFormat::svg)}) {
    CHECK(count(svg, "<title>") == 1);
    CHECK(count(svg, "</title>") == 1);
  }
  CHECK_THAT(draw(bars, ImageFormat::svg), ContainsSubstring("<title>1 &lt; 2</title>"));
}

TEST_CASE("gnuplot: half a picture replaces nothing, and ~/.gnuplot is not asked", "[apps][plot][command]") {
  if (!have_gnuplot()) return;
  const TempDir temp;
  const fs::path cwd = temp / "cwd";
  fs::create_directories(cwd / "run");
  fs::create_directories(cwd / "bin");
  spill(cwd / "run/metrics.jsonl", "{\"epoch\":1,\"val_loss\":2}\n{\"epoch\":2,\"val_loss\":1}\n");
  spill(cwd / ".gnuplot", "set label 'MINE' at graph 0.5,0.5\n");
  REQUIRE(run_shell(cwd, "HOME=\"$PWD\" \"$wedge\" plot run").status == 0);
  const std::string before = slurp(cwd / "run/learning_curves.svg");
  CHECK_THAT(before, !ContainsSubstring("MINE"));
  for (const char* output : {"<svg>x", "", "<svg></svg> and more"}) {
    spill(cwd / "bin/gnuplot", fmt::format("#!/bin/sh\nprintf '{}'\n", output));
    fs::permissions(cwd / "bin/gnuplot", fs::perms::owner_all);
    const Outcome outcome = run_shell(cwd, "PATH=\"$PWD/bin:$PATH\" \"$wedge\" plot run");
    CHECK(outcome.status == 2);
    CHECK(is_one_error_line(outcome.err));
    CHECK_THAT(outcome.err, ContainsSubstring("gnuplot: expected a whole picture, got"));
    CHECK(slurp(cwd / "run/learning_curves.svg") == before);
  }
  // Temporary files go where they are told to, and go.
  fs::create_directories(cwd / "tmp");
  CHECK(run_shell(cwd, "TMPDIR=\"$PWD/tmp\" \"$wedge\" plot run").status == 0);
  CHECK(fs::is_empty(cwd / "tmp"));
}

TEST_CASE("text for display: shortened in the middle by characters", "[apps][plot]") {
  CHECK(shorten_middle("abcdef", 6) == "abcdef");
  CHECK(shorten_middle("abcdefg", 6) == "abc…fg");
  CHECK(shorten_middle("äöüäöüä", 5) == "äö…üä");
  CHECK(count_characters("± a") == 3);
  CHECK(valid_utf8("a\xff\xc3"
                   "b") == "a\uFFFD\uFFFDb");
}
